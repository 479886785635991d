"""Colours and line styles shared by the figures, the images and the HTML page.

The hues are those of Okabe and Ito, which stay apart under the common forms of colour blindness;
where two of them meet, line style or hatching differs as well.
"""

from __future__ import annotations

BLUE = "#0072B2"
VERMILION = "#D55E00"
GREEN = "#009E73"
ORANGE = "#E69F00"
PINK = "#CC79A7"
SKY = "#56B4E9"
GRAY = "#5F6B76"

CYCLE = (BLUE, VERMILION, GREEN, ORANGE, PINK, SKY)

CORRECT = BLUE
WRONG = VERMILION

# Colours of boxes: the model's answer, its answer before adapting, the referent, the pseudo-label.
ROLES = {"predicted": BLUE, "before": GREEN, "true": ORANGE, "pseudo": PINK}

# Lengths of dashes and gaps by role, in line widths; empty for a solid line.
DASHES = {"predicted": (), "before": (6, 1), "true": (4, 2), "pseudo": (1.5, 1.5)}
