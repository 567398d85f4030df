"""Google's list prices for what a standby is made of, by region: dated figures, not live ones.

Source: the public price dump of the `google-cloud-pricing-cost-calculator` project (Apache-2.0), made from
Google's own price list on 2026-07-30. E2 types are billed by their share of cores and memory, so that
all of them follow from `e2-medium`. Spot prices move up to once a day; on-demand ones hardly ever.
Egress is the Premium tier's first terabyte, to anywhere but China and Australia. For Tokyo and
Osaka the dump has the first terabyte cheaper than the next one, so that price is not known here.
External addresses cost the same everywhere: Google's page as read on 2026-10-16.

A region or figure that is missing is unknown. Data only; `dumont.domain.standby_cost` adds it up.
"""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

AS_OF = date(2026, 7, 30)
SOURCE = "Google Cloud list prices as collected by google-cloud-pricing-cost-calculator"

HOURS_PER_MONTH = 730.0
"""Google's own month."""

ADDRESS_PER_HOUR = 0.005
ADDRESS_PER_HOUR_SPOT = 0.0025
ADDRESS_PER_HOUR_UNUSED = 0.01
"""Of one that is reserved and used by nothing; as the same page is quoted by others, not read by us."""

E2_SHARES: dict[str, float] = {
    "e2-micro": 0.25,
    "e2-small": 0.5,
    "e2-medium": 1.0,
    "e2-standard-2": 2.0,
    "e2-standard-4": 4.0,
    "e2-standard-8": 8.0,
    "e2-standard-16": 16.0,
}
"""What each type bills, in `e2-medium`s."""

N2_SHARES: dict[str, float] = {
    "n2-standard-2": 1.0,
    "n2-standard-4": 2.0,
    "n2-standard-8": 4.0,
}
"""What each type bills, in `n2-standard-2`s."""


class ListPrices(NamedTuple):
    """One region's prices in dollars; None is unknown or not sold there."""

    region: str
    e2_medium: float | None
    """Per hour."""
    e2_medium_spot: float | None
    n2_standard_2: float | None
    n2_standard_2_spot: float | None
    pd_standard: float | None
    """Per GB and month, as the other disks."""
    pd_balanced: float | None
    pd_ssd: float | None
    egress: float | None
    """Per GB to the internet."""


# fmt: off
LIST_PRICES: dict[str, ListPrices] = {
    prices.region: prices
    for prices in (
        ListPrices("africa-south1", 0.0368577, 0.011432, 0.106834, 0.036008, 0.05232, 0.109788, 0.1866395, 0.15),
        ListPrices("asia-east1", 0.0387959, 0.020276, 0.112452, 0.041784, 0.04, 0.1, 0.17, 0.12),
        ListPrices("asia-east2", 0.0468807, 0.009708, 0.135886, 0.04332, 0.0498, 0.11, 0.187, 0.12),
        ListPrices("asia-northeast1", 0.0429829, 0.025792, 0.124588, 0.032704, 0.052, 0.13, 0.221, None),
        ListPrices("asia-northeast2", 0.0429829, 0.01127, 0.124718, 0.030664, 0.052, 0.13, 0.221, None),
        ListPrices("asia-northeast3", 0.0429829, 0.015382, 0.124718, 0.040828, 0.052, 0.13, 0.221, 0.15),
        ListPrices("asia-south1", 0.0402422, 0.024144, 0.116644, 0.035484, 0.048, 0.12, 0.204, 0.12),
        ListPrices("asia-south2", 0.0402422, 0.017268, 0.116644, 0.010504, 0.048, 0.12, 0.204, 0.12),
        ListPrices("asia-southeast1", 0.0413331, 0.021582, 0.119806, 0.04666, 0.044, 0.11, 0.187, 0.12),
        ListPrices("asia-southeast2", 0.045053, 0.009478, 0.1305885, 0.0682, 0.052, 0.13, 0.221, 0.19),
        ListPrices("asia-southeast3", None, None, None, None, 0.042, 0.105, 0.1785, 0.12),
        ListPrices("australia-southeast1", 0.047541, 0.022162, 0.1378, 0.052812, 0.054, 0.135, 0.23, 0.19),
        ListPrices("australia-southeast2", 0.040408, 0.020216, 0.117128, 0.043752, 0.054, 0.135, 0.23, 0.19),
        ListPrices("europe-central2", 0.0405419, 0.01163, 0.117516, 0.033984, 0.048, 0.13, 0.204, 0.12),
        ListPrices("europe-north1", 0.0368888, 0.009814, 0.106924, 0.050328, 0.044, 0.11, 0.187, 0.12),
        ListPrices("europe-north2", 0.035181, 0.008636, None, None, 0.04, 0.1, 0.17, 0.12),
        ListPrices("europe-southwest1", 0.039538, 0.020644, 0.1145992, 0.0259, 0.0472, 0.12, 0.2006, 0.12),
        ListPrices("europe-west1", 0.0368577, 0.017852, 0.106834, 0.023444, 0.04, 0.1, 0.17, 0.12),
        ListPrices("europe-west10", 0.0431691, 0.00694, 0.1251279, 0.0242, 0.0616, 0.154, 0.2618, 0.12),
        ListPrices("europe-west12", 0.0432224, 0.01089, 0.1252822, 0.02132, 0.0516, 0.12, 0.204, 0.12),
        ListPrices("europe-west2", 0.0431678, 0.013686, 0.125124, 0.025312, 0.048, 0.12, 0.204, 0.12),
        ListPrices("europe-west3", 0.0431678, 0.020966, 0.125124, 0.049796, 0.048, 0.12, 0.204, 0.12),
        ListPrices("europe-west4", 0.036886, 0.017632, 0.106916, 0.038868, 0.044, 0.11, 0.187, 0.12),
        ListPrices("europe-west6", 0.0438913, 0.01725, 0.127226, 0.040984, 0.052, 0.13, 0.221, 0.12),
        ListPrices("europe-west8", 0.038866, 0.01765, 0.1126569, 0.013704, 0.0464, 0.116, 0.1972, 0.12),
        ListPrices("europe-west9", 0.038866, 0.0192, 0.1126569, 0.02784, 0.0464, 0.116, 0.1972, 0.12),
        ListPrices("me-central1", 0.0407094, 0.015332, 0.1179984, 0.02772, 0.0486, 0.1215, 0.20655, 0.15),
        ListPrices("me-central2", 0.0536091, 0.027868, 0.1553888, 0.023536, 0.064, 0.16, 0.272, 0.19),
        ListPrices("me-west1", 0.0368563, 0.018206, 0.1068298, 0.047956, 0.044, 0.11, 0.187, 0.15),
        ListPrices("northamerica-northeast1", 0.036886, 0.010968, 0.106916, 0.033792, 0.044, 0.11, 0.187, 0.12),
        ListPrices("northamerica-northeast2", 0.036886, 0.007054, 0.106916, 0.009648, 0.044, 0.11, 0.187, 0.12),
        ListPrices("northamerica-south1", 0.0365212, 0.013194, None, None, 0.0436, 0.109, 0.1853, 0.12),
        ListPrices("southamerica-east1", 0.0531852, 0.009722, 0.15416, 0.031272, 0.06, 0.15, 0.255, 0.19),
        ListPrices("southamerica-west1", 0.0479132, 0.016588, 0.1388787, 0.0329, 0.0572, 0.143, 0.2431, 0.19),
        ListPrices("us-central1", 0.0335057, 0.020106, 0.097118, 0.04606, 0.04, 0.1, 0.17, 0.12),
        ListPrices("us-east1", 0.0335057, 0.020106, 0.097118, 0.04606, 0.04, 0.1, 0.17, 0.12),
        ListPrices("us-east4", 0.0377354, 0.02069, 0.109378, 0.025036, 0.044, 0.11, 0.187, 0.12),
        ListPrices("us-east5", 0.0335057, 0.011626, 0.097118, 0.045952, 0.04, 0.1, 0.17, 0.12),
        ListPrices("us-south1", 0.0395367, 0.012738, 0.1145992, 0.025524, 0.0472, 0.12, 0.2006, 0.12),
        ListPrices("us-west1", 0.0335057, 0.020106, 0.097118, 0.04606, 0.04, 0.1, 0.17, 0.12),
        ListPrices("us-west2", 0.0402449, 0.012412, 0.116652, 0.03816, 0.048, 0.12, 0.204, 0.12),
        ListPrices("us-west3", 0.0402449, 0.010596, 0.116652, 0.039448, 0.048, 0.12, 0.204, 0.12),
        ListPrices("us-west4", 0.0377354, 0.004544, 0.109374, 0.056104, 0.044, 0.11, 0.187, 0.12),
    )
}
# fmt: on
"""Prices by region."""
