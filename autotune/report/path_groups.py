"""Groups of hot paths that share a colour: more than eight colours cannot be told apart by everybody."""

from __future__ import annotations

COLLECTIVES = "collectives"

GROUPS: dict[str, tuple[tuple[int, ...], str]] = {
    "routed experts": ((18, 19, 20, 21), "#D55E00"),
    "dense GEMMs": ((6, 7, 16, 17, 22), "#E69F00"),
    "attention": ((9, 13, 14, 15), "#0072B2"),
    "indexer, compressor": ((8, 10, 11, 12), "#56B4E9"),
    "norms, quantisation": ((4, 5), "#009E73"),
    "hyper-connections": ((1, 2, 3), "#CC79A7"),
    "head, metadata": ((23, 24), "#F0E442"),
    COLLECTIVES: ((25,), "#999999"),
}
"""Numbers of the hot paths and the colour of each group: the palette of Okabe and Ito (2008), made for colour-blind
readers, with grey for what is no kernel."""

GROUP_OF = {number: name for name, (numbers, _) in GROUPS.items() for number in numbers}
