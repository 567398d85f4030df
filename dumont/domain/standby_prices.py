"""Google Compute's list prices for what a standby is made of, as of one date.

Source: Google's public price list (Cloud Billing Catalog) as the Apache-2.0 project
`Cyclenerd/google-cloud-pricing-cost-calculator` recorded it in `pricing.yml` on 2026-07-30. Every
machine type of a series there is exactly cores times one price plus memory times another, so the two
prices are kept and the types are computed. The price of a Spot VM's address is from Google's page as
read on 2026-10-16. Spot prices move up to once a day, and have doubled within a year: whatever is
computed from here is an estimate and says so; the truth is in the provider's bill.
"""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import NamedTuple

LIST_PRICES_OF = date(2026, 7, 30)
"""The day on which these prices were listed."""

HOURS_PER_MONTH = 730.0
"""Google's own month for prices by the month."""


class Rates(NamedTuple):
    """What a machine series costs in a region, $/h."""

    core: float
    ram_gb: float
    spot_core: float
    spot_ram_gb: float


class DiskRates(NamedTuple):
    """What a GB of disk costs in a region, $/month."""

    pd_standard: float
    pd_balanced: float
    pd_ssd: float


class Destination(StrEnum):
    """Where traffic goes that leaves Google, in the classes of its price list (Premium tier)."""

    WORLDWIDE = "worldwide"
    """Anywhere but the two below."""
    AUSTRALIA = "australia"
    CHINA = "china"
    """Mainland China; Hong Kong is worldwide."""


ADDRESS_USD_PER_HOUR = {"standard": 0.005, "spot": 0.0025}
"""An external IPv4 address in use; the same in every region."""

_E2: dict[str, Rates] = {
    "africa-south1": Rates(0.02399337, 0.00321609, 0.00744, 0.000998),
    "asia-east1": Rates(0.02525538, 0.00338514, 0.0132, 0.001769),
    "asia-east2": Rates(0.03051939, 0.00409032, 0.00632, 0.000847),
    "asia-northeast1": Rates(0.02802642, 0.00373911, 0.01682, 0.002243),
    "asia-northeast2": Rates(0.02802642, 0.00373911, 0.00735, 0.00098),
    "asia-northeast3": Rates(0.02802642, 0.00373911, 0.01003, 0.001338),
    "asia-south1": Rates(0.0261993, 0.00351072, 0.01572, 0.002106),
    "asia-south2": Rates(0.0261993, 0.00351072, 0.01124, 0.001507),
    "asia-southeast1": Rates(0.02690931, 0.00360594, 0.01405, 0.001883),
    "asia-southeast2": Rates(0.02933115, 0.00393047, 0.00617, 0.000827),
    "australia-southeast1": Rates(0.03095064, 0.00414759, 0.01443, 0.001933),
    "australia-southeast2": Rates(0.026308, 0.003525, 0.01316, 0.001764),
    "europe-central2": Rates(0.0263922, 0.00353742, 0.00757, 0.001015),
    "europe-north1": Rates(0.02401614, 0.00321816, 0.00639, 0.000856),
    "europe-north2": Rates(0.02290217, 0.00306971, 0.00562, 0.000754),
    "europe-southwest1": Rates(0.025738, 0.00345, 0.01344, 0.001801),
    "europe-west1": Rates(0.02399337, 0.00321609, 0.01162, 0.001558),
    "europe-west10": Rates(0.02810463, 0.00376612, 0.00452, 0.000605),
    "europe-west12": Rates(0.02813695, 0.00377135, 0.00709, 0.00095),
    "europe-west2": Rates(0.0281037, 0.00376602, 0.00891, 0.001194),
    "europe-west3": Rates(0.0281037, 0.00376602, 0.01365, 0.001829),
    "europe-west4": Rates(0.02401338, 0.00321816, 0.01148, 0.001538),
    "europe-west6": Rates(0.02857225, 0.00382977, 0.01123, 0.001505),
    "europe-west8": Rates(0.025302, 0.003391, 0.01149, 0.00154),
    "europe-west9": Rates(0.025302, 0.003391, 0.0125, 0.001675),
    "me-central1": Rates(0.02650108, 0.00355209, 0.00998, 0.001338),
    "me-central2": Rates(0.03489854, 0.00467765, 0.01814, 0.002432),
    "me-west1": Rates(0.02399275, 0.00321588, 0.01185, 0.001589),
    "northamerica-northeast1": Rates(0.02401338, 0.00321816, 0.00714, 0.000957),
    "northamerica-northeast2": Rates(0.02401338, 0.00321816, 0.00459, 0.000616),
    "northamerica-south1": Rates(0.02377463, 0.00318665, 0.00859, 0.001151),
    "southamerica-east1": Rates(0.0346242, 0.00464025, 0.00633, 0.000848),
    "southamerica-west1": Rates(0.03119057, 0.00418065, 0.0108, 0.001447),
    "us-central1": Rates(0.02181159, 0.00292353, 0.01309, 0.001754),
    "us-east1": Rates(0.02181159, 0.00292353, 0.01309, 0.001754),
    "us-east4": Rates(0.02456745, 0.00329199, 0.01347, 0.001805),
    "us-east5": Rates(0.02181159, 0.00292353, 0.00757, 0.001014),
    "us-south1": Rates(0.02573768, 0.00344977, 0.00829, 0.001112),
    "us-west1": Rates(0.02181159, 0.00292353, 0.01309, 0.001754),
    "us-west2": Rates(0.0261993, 0.00351141, 0.00808, 0.001083),
    "us-west3": Rates(0.0261993, 0.00351141, 0.0069, 0.000924),
    "us-west4": Rates(0.02456745, 0.00329199, 0.00296, 0.000396),
}

_N2: dict[str, Rates] = {
    "africa-south1": Rates(0.034773, 0.004661, 0.01172, 0.001571),
    "asia-east1": Rates(0.036602, 0.004906, 0.0136, 0.001823),
    "asia-east2": Rates(0.044231, 0.005928, 0.0141, 0.00189),
    "asia-northeast1": Rates(0.040618, 0.005419, 0.01066, 0.001423),
    "asia-northeast2": Rates(0.040595, 0.005441, 0.00998, 0.001338),
    "asia-northeast3": Rates(0.040595, 0.005441, 0.01329, 0.001781),
    "asia-south1": Rates(0.03797, 0.005088, 0.01155, 0.001548),
    "asia-south2": Rates(0.03797, 0.005088, 0.00342, 0.000458),
    "asia-southeast1": Rates(0.038999, 0.005226, 0.01519, 0.002035),
    "asia-southeast2": Rates(0.04250891, 0.00569634, 0.0222, 0.002975),
    "australia-southeast1": Rates(0.044856, 0.006011, 0.01719, 0.002304),
    "australia-southeast2": Rates(0.038128, 0.005109, 0.01424, 0.001909),
    "europe-central2": Rates(0.03825, 0.005127, 0.01106, 0.001483),
    "europe-north1": Rates(0.034806, 0.004664, 0.01638, 0.002196),
    "europe-southwest1": Rates(0.03730098, 0.00499966, 0.00843, 0.00113),
    "europe-west1": Rates(0.034773, 0.004661, 0.00763, 0.001023),
    "europe-west10": Rates(0.04073134, 0.00545815, 0.00788, 0.001055),
    "europe-west12": Rates(0.04077819, 0.00546573, 0.00694, 0.00093),
    "europe-west2": Rates(0.04073, 0.005458, 0.00824, 0.001104),
    "europe-west3": Rates(0.04073, 0.005458, 0.01621, 0.002172),
    "europe-west4": Rates(0.034802, 0.004664, 0.01265, 0.001696),
    "europe-west6": Rates(0.041409, 0.005551, 0.01334, 0.001788),
    "europe-west8": Rates(0.03666876, 0.00491492, 0.00446, 0.000598),
    "europe-west9": Rates(0.03666876, 0.00491492, 0.00906, 0.001215),
    "me-central1": Rates(0.03840737, 0.00514796, 0.00902, 0.00121),
    "me-central2": Rates(0.0505776, 0.0067792, 0.00766, 0.001027),
    "me-west1": Rates(0.0347721, 0.0046607, 0.01561, 0.002092),
    "northamerica-northeast1": Rates(0.034802, 0.004664, 0.011, 0.001474),
    "northamerica-northeast2": Rates(0.034802, 0.004664, 0.00314, 0.000421),
    "southamerica-east1": Rates(0.05018, 0.006725, 0.01018, 0.001364),
    "southamerica-west1": Rates(0.04520373, 0.00605891, 0.01071, 0.001435),
    "us-central1": Rates(0.031611, 0.004237, 0.01499, 0.00201),
    "us-east1": Rates(0.031611, 0.004237, 0.01499, 0.00201),
    "us-east4": Rates(0.035605, 0.004771, 0.00815, 0.001092),
    "us-east5": Rates(0.031611, 0.004237, 0.01496, 0.002004),
    "us-south1": Rates(0.03730098, 0.00499966, 0.00831, 0.001113),
    "us-west1": Rates(0.031611, 0.004237, 0.01499, 0.00201),
    "us-west2": Rates(0.03797, 0.005089, 0.01242, 0.001665),
    "us-west3": Rates(0.03797, 0.005089, 0.01284, 0.001721),
    "us-west4": Rates(0.035603, 0.004771, 0.01826, 0.002448),
}

_N2D: dict[str, Rates] = {
    "africa-south1": Rates(0.030253, 0.004055, 0.01463, 0.001961),
    "asia-east1": Rates(0.031844, 0.004268, 0.0167, 0.002239),
    "asia-east2": Rates(0.038481, 0.005157, 0.01271, 0.001703),
    "asia-northeast1": Rates(0.035338, 0.004715, 0.0149, 0.001988),
    "asia-northeast2": Rates(0.035318, 0.004734, 0.00543, 0.000728),
    "asia-northeast3": Rates(0.035318, 0.004734, 0.00627, 0.00084),
    "asia-south1": Rates(0.018151, 0.002433, 0.00993, 0.001331),
    "asia-south2": Rates(0.033034, 0.004427, 0.01739, 0.002331),
    "asia-southeast1": Rates(0.033929, 0.004547, 0.00696, 0.000933),
    "asia-southeast2": Rates(0.03698261, 0.00495623, 0.01038, 0.001392),
    "australia-southeast1": Rates(0.039025, 0.00523, 0.0169, 0.002265),
    "australia-southeast2": Rates(0.033171, 0.004446, 0.0083, 0.001112),
    "europe-central2": Rates(0.033277, 0.00446, 0.0193, 0.002587),
    "europe-north1": Rates(0.030281, 0.004058, 0.01024, 0.001372),
    "europe-southwest1": Rates(0.03245236, 0.00434948, 0.01947, 0.00261),
    "europe-west1": Rates(0.030253, 0.004055, 0.01313, 0.00176),
    "europe-west10": Rates(0.03543682, 0.00474777, 0.00469, 0.000628),
    "europe-west12": Rates(0.03547758, 0.00475494, 0.00545, 0.000731),
    "europe-west2": Rates(0.035435, 0.004748, 0.01418, 0.0019),
    "europe-west3": Rates(0.035435, 0.004748, 0.02126, 0.002849),
    "europe-west4": Rates(0.030278, 0.004058, 0.0106, 0.00142),
    "europe-west6": Rates(0.036026, 0.004829, 0.01416, 0.001898),
    "europe-west8": Rates(0.03190232, 0.00427576, 0.00566, 0.000758),
    "europe-west9": Rates(0.03190232, 0.00427576, 0.0086, 0.001153),
    "me-central1": Rates(0.03341493, 0.00447849, 0.00914, 0.001224),
    "me-central2": Rates(0.0440032, 0.0058976, 0.00681, 0.000913),
    "me-west1": Rates(0.0302522, 0.0040546, 0.0062, 0.000832),
    "northamerica-northeast1": Rates(0.030278, 0.004058, 0.01647, 0.002207),
    "northamerica-northeast2": Rates(0.030278, 0.004058, 0.0117, 0.001568),
    "southamerica-east1": Rates(0.043657, 0.005851, 0.0094, 0.00126),
    "southamerica-west1": Rates(0.03932786, 0.00527098, 0.00701, 0.000939),
    "us-central1": Rates(0.027502, 0.003686, 0.00796, 0.001067),
    "us-east1": Rates(0.027502, 0.003686, 0.00796, 0.001067),
    "us-east4": Rates(0.030976, 0.004151, 0.01579, 0.002116),
    "us-east5": Rates(0.027502, 0.003686, 0.00641, 0.000859),
    "us-south1": Rates(0.03245236, 0.00434948, 0.0093, 0.001246),
    "us-west1": Rates(0.027502, 0.003686, 0.00796, 0.001067),
    "us-west2": Rates(0.033034, 0.004427, 0.01522, 0.002039),
    "us-west3": Rates(0.033034, 0.004427, 0.0091, 0.00122),
    "us-west4": Rates(0.030976, 0.004151, 0.00733, 0.000982),
}

SERIES_RATES: dict[str, dict[str, Rates]] = {"e2": _E2, "n2": _N2, "n2d": _N2D}
"""By machine series, then by region. A region that is missing does not sell the series."""

DISK_RATES: dict[str, DiskRates] = {
    "africa-south1": DiskRates(0.05232, 0.109788, 0.1866395),
    "asia-east1": DiskRates(0.04, 0.1, 0.17),
    "asia-east2": DiskRates(0.0498, 0.11, 0.187),
    "asia-northeast1": DiskRates(0.052, 0.13, 0.221),
    "asia-northeast2": DiskRates(0.052, 0.13, 0.221),
    "asia-northeast3": DiskRates(0.052, 0.13, 0.221),
    "asia-south1": DiskRates(0.048, 0.12, 0.204),
    "asia-south2": DiskRates(0.048, 0.12, 0.204),
    "asia-southeast1": DiskRates(0.044, 0.11, 0.187),
    "asia-southeast2": DiskRates(0.052, 0.13, 0.221),
    "asia-southeast3": DiskRates(0.042, 0.105, 0.1785),
    "australia-southeast1": DiskRates(0.054, 0.135, 0.23),
    "australia-southeast2": DiskRates(0.054, 0.135, 0.23),
    "europe-central2": DiskRates(0.048, 0.13, 0.204),
    "europe-north1": DiskRates(0.044, 0.11, 0.187),
    "europe-north2": DiskRates(0.04, 0.1, 0.17),
    "europe-southwest1": DiskRates(0.0472, 0.12, 0.2006),
    "europe-west1": DiskRates(0.04, 0.1, 0.17),
    "europe-west10": DiskRates(0.0616, 0.154, 0.2618),
    "europe-west12": DiskRates(0.0516, 0.12, 0.204),
    "europe-west2": DiskRates(0.048, 0.12, 0.204),
    "europe-west3": DiskRates(0.048, 0.12, 0.204),
    "europe-west4": DiskRates(0.044, 0.11, 0.187),
    "europe-west6": DiskRates(0.052, 0.13, 0.221),
    "europe-west8": DiskRates(0.0464, 0.116, 0.1972),
    "europe-west9": DiskRates(0.0464, 0.116, 0.1972),
    "me-central1": DiskRates(0.0486, 0.1215, 0.20655),
    "me-central2": DiskRates(0.064, 0.16, 0.272),
    "me-west1": DiskRates(0.044, 0.11, 0.187),
    "northamerica-northeast1": DiskRates(0.044, 0.11, 0.187),
    "northamerica-northeast2": DiskRates(0.044, 0.11, 0.187),
    "northamerica-south1": DiskRates(0.0436, 0.109, 0.1853),
    "southamerica-east1": DiskRates(0.06, 0.15, 0.255),
    "southamerica-west1": DiskRates(0.0572, 0.143, 0.2431),
    "us-central1": DiskRates(0.04, 0.1, 0.17),
    "us-east1": DiskRates(0.04, 0.1, 0.17),
    "us-east4": DiskRates(0.044, 0.11, 0.187),
    "us-east5": DiskRates(0.04, 0.1, 0.17),
    "us-south1": DiskRates(0.0472, 0.12, 0.2006),
    "us-west1": DiskRates(0.04, 0.1, 0.17),
    "us-west2": DiskRates(0.048, 0.12, 0.204),
    "us-west3": DiskRates(0.048, 0.12, 0.204),
    "us-west4": DiskRates(0.044, 0.11, 0.187),
}
"""By region."""

_WORLDWIDE_USD_PER_GB = {
    "africa-south1": 0.15,
    "asia-northeast1": 0.085,
    "asia-northeast2": 0.085,
    "asia-northeast3": 0.15,
    "asia-southeast2": 0.19,
    "australia-southeast1": 0.19,
    "australia-southeast2": 0.19,
    "me-central1": 0.15,
    "me-central2": 0.19,
    "me-west1": 0.15,
    "southamerica-east1": 0.19,
    "southamerica-west1": 0.19,
}
_ELSEWHERE_USD_PER_GB = 0.12


def egress_usd_per_gb(*, region: str, destination: Destination) -> float | None:
    """What a GB costs that leaves `region` for the Internet; None for an unknown region.

    The price of an account's first TB of a month: what we can say without knowing what else the
    account sends. What comes in is free.
    """
    if region not in DISK_RATES:
        return None
    seoul = region == "asia-northeast3"
    match destination:
        case Destination.WORLDWIDE:
            return _WORLDWIDE_USD_PER_GB.get(region, _ELSEWHERE_USD_PER_GB)
        case Destination.AUSTRALIA:
            return 0.15 if seoul else 0.19
        case Destination.CHINA:
            return 0.20 if seoul else 0.23
