"""What can be rented: GPU models, places and parts, with prices in the range of late 2026.

Written for simcloud; no provider's catalogue was copied. `tests/simcloud/test_vast_market.py`
holds it to what clients rely on.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class GpuModel:
    """One GPU model as Vast names it."""

    name: str
    smi_name: str
    """Name that `nvidia-smi` prints."""
    memory_mb: int
    compute_capability: int
    """890 is 8.9."""
    tflops: float
    """fp32."""
    dlperf: float
    bandwidth_gbs: float
    power_w: int
    price: float
    """Typical on-demand $/h for one."""
    weight: int
    """How common its hosts are."""
    datacenter: float = 0.15
    """Share of its hosts that are in datacenters."""


def _gpu(
    name: str,
    smi_name: str,
    memory_mb: int,
    capability: int,
    tflops: float,
    dlperf: float,
    bandwidth: float,
    power: int,
    price: float,
    weight: int,
    datacenter: float = 0.15,
) -> GpuModel:
    return GpuModel(
        name=name,
        smi_name=smi_name,
        memory_mb=memory_mb,
        compute_capability=capability,
        tflops=tflops,
        dlperf=dlperf,
        bandwidth_gbs=bandwidth,
        power_w=power,
        price=price,
        weight=weight,
        datacenter=datacenter,
    )


_GEFORCE = "NVIDIA GeForce "
_GPUS = (
    _gpu("RTX 3060", _GEFORCE + "RTX 3060", 12288, 860, 12.7, 17.1, 327, 170, 0.06, 3),
    _gpu("RTX 3080", _GEFORCE + "RTX 3080", 10240, 860, 29.8, 33.0, 689, 320, 0.10, 2),
    _gpu("RTX 3090", _GEFORCE + "RTX 3090", 24576, 860, 35.6, 44.5, 852, 350, 0.17, 7),
    _gpu("RTX 4070S Ti", _GEFORCE + "RTX 4070 Ti SUPER", 16376, 890, 44.1, 50.2, 612, 285, 0.15, 2),
    _gpu("RTX 4080", _GEFORCE + "RTX 4080", 16376, 890, 48.7, 56.0, 653, 320, 0.19, 2),
    _gpu("RTX 4090", _GEFORCE + "RTX 4090", 24564, 890, 82.6, 96.0, 906, 450, 0.35, 16),
    _gpu("RTX 5070 Ti", _GEFORCE + "RTX 5070 Ti", 16303, 1200, 43.9, 62.0, 850, 300, 0.17, 2),
    _gpu("RTX 5090", _GEFORCE + "RTX 5090", 32607, 1200, 104.8, 158.0, 1620, 575, 0.52, 8),
    _gpu("RTX A4000", "NVIDIA RTX A4000", 16376, 860, 19.2, 24.0, 430, 140, 0.11, 2, 0.4),
    _gpu("RTX A5000", "NVIDIA RTX A5000", 24564, 860, 27.8, 34.0, 700, 230, 0.21, 3, 0.4),
    _gpu("RTX A6000", "NVIDIA RTX A6000", 49140, 860, 38.7, 47.0, 710, 300, 0.43, 4, 0.5),
    _gpu("RTX 6000Ada", "NVIDIA RTX 6000 Ada Generation", 49140, 890, 91.1, 98.0, 900, 300, 0.66, 3),
    _gpu("L4", "NVIDIA L4", 23034, 890, 30.3, 31.0, 290, 72, 0.28, 2, 0.9),
    _gpu("L40S", "NVIDIA L40S", 46068, 890, 91.6, 102.0, 810, 350, 0.64, 5, 0.8),
    _gpu("A40", "NVIDIA A40", 46068, 860, 37.4, 45.0, 670, 300, 0.40, 2, 0.8),
    _gpu("Tesla T4", "Tesla T4", 15360, 750, 8.1, 9.5, 290, 70, 0.12, 1, 0.8),
    _gpu("Tesla V100", "Tesla V100-SXM2-16GB", 16384, 700, 15.7, 28.0, 830, 300, 0.16, 2, 0.6),
    _gpu("A100 PCIE", "NVIDIA A100 80GB PCIe", 81920, 800, 19.5, 82.0, 1780, 300, 0.74, 4, 0.8),
    _gpu("A100 SXM4", "NVIDIA A100-SXM4-80GB", 81920, 800, 19.5, 98.0, 1870, 400, 0.88, 4, 0.9),
    _gpu("H100 PCIE", "NVIDIA H100 PCIe", 81559, 900, 51.2, 182.0, 1900, 350, 1.70, 2, 0.9),
    _gpu("H100 SXM", "NVIDIA H100 80GB HBM3", 81559, 900, 66.9, 260.0, 3100, 700, 1.95, 4, 0.95),
    _gpu("H200", "NVIDIA H200", 143771, 900, 66.9, 292.0, 4500, 700, 2.75, 2, 0.95),
    _gpu("B200", "NVIDIA B200", 183359, 1000, 75.0, 480.0, 7700, 1000, 4.10, 1, 1.0),
)  # fmt: skip

GPUS: dict[str, GpuModel] = {gpu.name: gpu for gpu in _GPUS}
"""Every model by its Vast name."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a host stands, as far as an IP address tells."""

    geolocation: str
    """`Region, CC`; the region may be missing and need not be ASCII."""
    city: str
    latitude: float
    longitude: float

    @property
    def country(self) -> str:
        """Two-letter country code."""
        return self.geolocation.rpartition(",")[2].strip()


PLACES: tuple[Place, ...] = tuple(
    Place(geolocation=geolocation, city=city, latitude=latitude, longitude=longitude)
    for geolocation, city, latitude, longitude in (
        ("Texas, US", "Dallas", 32.78, -96.80),
        ("Texas, US", "Houston", 29.76, -95.37),
        ("California, US", "San Jose", 37.34, -121.89),
        ("Washington, US", "Seattle", 47.61, -122.33),
        ("Oregon, US", "Portland", 45.52, -122.68),
        ("Utah, US", "Salt Lake City", 40.76, -111.89),
        ("Virginia, US", "Ashburn", 39.04, -77.49),
        ("New York, US", "New York", 40.71, -74.01),
        (", US", "", 37.75, -97.82),
        ("United States, US", "", 37.75, -97.82),
        ("Quebec, CA", "Montréal", 45.50, -73.57),
        ("Ontario, CA", "Toronto", 43.65, -79.38),
        ("Sweden, SE", "Stockholm", 59.33, 18.07),
        ("Norway, NO", "Oslo", 59.91, 10.75),
        ("Hafnarfjarðarkaupstaður, IS", "Hafnarfjörður", 64.07, -21.96),
        ("Finland, FI", "Helsinki", 60.17, 24.94),
        ("Germany, DE", "Frankfurt", 50.11, 8.68),
        ("Bayern, DE", "Nürnberg", 49.45, 11.08),
        ("Île-de-France, FR", "Paris", 48.86, 2.35),
        ("Netherlands, NL", "Amsterdam", 52.37, 4.90),
        ("United Kingdom, GB", "London", 51.51, -0.13),
        ("Poland, PL", "Warszawa", 52.23, 21.01),
        ("Czechia, CZ", "Praha", 50.08, 14.44),
        ("Bulgaria, BG", "Sofia", 42.70, 23.32),
        ("Spain, ES", "Madrid", 40.42, -3.70),
        ("São Paulo, BR", "São Paulo", -23.55, -46.63),
        ("Taiwan, TW", "Taichung", 24.15, 120.67),
        ("Japan, JP", "Tokyo", 35.68, 139.69),
        ("South Korea, KR", "Seoul", 37.57, 126.98),
        ("Vietnam, VN", "Hanoi", 21.03, 105.85),
        ("Hong Kong, HK", "Hong Kong", 22.32, 114.17),
        ("Australia, AU", "Sydney", -33.87, 151.21),
    )
)
"""Places by index; hosts refer to them so."""

CPUS: tuple[tuple[str, int, float, str], ...] = (
    ("AMD EPYC 7742 64-Core Processor", 128, 3.4, "ROME2D32GM"),
    ("AMD EPYC 7543 32-Core Processor", 64, 3.7, "H12SSL-i"),
    ("AMD EPYC 9354 32-Core Processor", 64, 3.8, "H13SSL-N"),
    ("AMD Ryzen 9 7950X 16-Core Processor", 32, 5.7, "B650 Steel Legend"),
    ("AMD Ryzen Threadripper 3970X 32-Core", 64, 4.5, "TRX40 Creator"),
    ("Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz", 64, 3.2, "X12DPi-NT6"),
    ("Intel(R) Xeon(R) Platinum 8480+", 112, 3.8, "X13DEG-OA"),
    ("Intel(R) Core(TM) i9-13900K", 32, 5.8, "PRIME Z790-P"),
)
"""(name, hardware threads, GHz, mainboard)."""

DRIVERS: tuple[tuple[str, float], ...] = (
    ("570.86.15", 12.8),
    ("570.133.20", 12.8),
    ("565.57.01", 12.7),
    ("580.65.06", 13.0),
    ("550.127.05", 12.4),
)
"""(driver version, newest CUDA it runs)."""

DISKS: tuple[tuple[str, float], ...] = (
    ("Samsung SSD 990 PRO 2TB", 4200.0),
    ("KINGSTON SFYRD4000G", 3900.0),
    ("MICRON_7450_MTFDKCC3T8TFR", 5100.0),
    ("nvme", 2400.0),
    ("WD_BLACK SN850X 4000GB", 4400.0),
)
"""(name, MB/s)."""
