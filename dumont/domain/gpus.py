"""GPU models by the names the market uses, and the many ways people type them."""

from __future__ import annotations

import difflib
import re

from dumont.domain.errors import InvalidInput

KNOWN_GPUS: tuple[str, ...] = (
    "A10", "A100 PCIE", "A100 SXM4", "A100X", "A16", "A2", "A30", "A40",
    "B200", "B300 SXM6 AC", "GH200 SXM", "GTX 1070", "GTX 1070 Ti", "GTX 1080", "GTX 1080 Ti",
    "GTX 1660", "GTX 1660 S", "GTX 1660 Ti", "H100 NVL", "H100 PCIE", "H100 SXM", "H200", "H200 NVL",
    "L4", "L40", "L40S", "Q RTX 4000", "Q RTX 6000", "Q RTX 8000",
    "RTX 2000Ada", "RTX 2060", "RTX 2060S", "RTX 2070", "RTX 2070S", "RTX 2080", "RTX 2080 Ti",
    "RTX 3050", "RTX 3060", "RTX 3060 Ti", "RTX 3060 laptop", "RTX 3070", "RTX 3070 Ti", "RTX 3080",
    "RTX 3080 Ti", "RTX 3090", "RTX 3090 Ti", "RTX 4000Ada", "RTX 4060", "RTX 4060 Ti", "RTX 4070",
    "RTX 4070 Ti", "RTX 4070S", "RTX 4070S Ti", "RTX 4080", "RTX 4080S", "RTX 4090", "RTX 4090D",
    "RTX 4500Ada", "RTX 5000Ada", "RTX 5060", "RTX 5060 Ti", "RTX 5070", "RTX 5070 Ti", "RTX 5080",
    "RTX 5090", "RTX 5880Ada", "RTX 6000Ada", "RTX A2000", "RTX A4000", "RTX A4500", "RTX A5000",
    "RTX A6000", "RTX PRO 4000", "RTX PRO 4500", "RTX PRO 5000", "RTX PRO 6000 S",
    "RTX PRO 6000 WS", "Tesla P100", "Tesla P4", "Tesla P40", "Tesla T4", "Tesla V100", "TITAN RTX",
    "TITAN V", "TITAN Xp",
)  # fmt: skip
"""Model names as Vast.ai spells them."""

_SHORT = {"A100": "A100 SXM4", "H100": "H100 SXM", "V100": "Tesla V100", "T4": "Tesla T4"}


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower()).removeprefix("nvidia").removeprefix("geforce")


_BY_KEY = {_key(name): name for name in KNOWN_GPUS}
_BY_KEY |= {_key(short): name for short, name in _SHORT.items()}
# "4090" and "3080ti" are how people speak; a model number never names two families here.
_BY_KEY |= {
    _key(name).removeprefix("rtx"): name
    for name in KNOWN_GPUS
    if re.match(r"RTX [2-5]0[5-9]0", name)
}


def canonical_gpu(text: str) -> str:
    """The market's name for what a person typed: `rtx4090`, `RTX_4090`, `4090` -> `RTX 4090`.

    Raises:
        InvalidInput: Unknown model; the message suggests the closest ones.
    """
    found = _BY_KEY.get(_key(text))
    if found is not None:
        return found
    close = difflib.get_close_matches(_key(text), _BY_KEY, n=3, cutoff=0.5)
    names = list(dict.fromkeys(_BY_KEY[key] for key in close))
    raise InvalidInput(
        f"unknown GPU {text!r}" + (f"; did you mean {' or '.join(names)}?" if names else ""),
        field="gpu",
        hint="`dumont offers` lists what the market rents now",
    )
