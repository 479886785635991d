"""What every command needs of the machine: how threads wait for each other."""
