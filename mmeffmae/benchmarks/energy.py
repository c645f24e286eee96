# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Energy of a GPU by its own counter, and what it emitted."""
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Optional

import torch

#: Stands where nothing counted; time times a constant is no measurement.
NOT_MEASURED = 'not measured'
JOULES_PER_KWH = 3.6e6


class EnergyMeter:
    """Energy between the start and the end of a ``with`` block.

    Energy is the difference of the counter of the current GPU, which needs
    ``nvidia-ml-py`` (the ``energy`` extra). CO2 is this energy times the
    carbon intensity that CodeCarbon's offline tracker knows for a country; no
    country, no CO2.

    Args:
        country: ISO 3166 code of three letters.

    Raises:
        ValueError: The country is unknown, or CodeCarbon is not installed.
    """

    def __init__(self, country: Optional[str] = None) -> None:
        if country is not None:
            check_country(country)
        self.country = country
        self._start: Optional[float] = None
        self._joules: Optional[float] = None
        self._intensity: Optional[float] = None

    def __enter__(self) -> 'EnergyMeter':
        self._tracker = None if self.country is None else _tracker(self.country)
        self._start = gpu_joules()
        return self

    def __exit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        end = gpu_joules()
        if self._start is not None and end is not None:
            self._joules = end - self._start
        if self._tracker is not None:
            self._tracker.stop()
            data = self._tracker.final_emissions_data
            self._intensity = data.emissions / data.energy_consumed

    def record(self) -> dict[str, Any]:
        """Plain values: ``gpu_joules``, and with a country ``co2eq_grams``."""
        measured = self._joules is not None
        values: dict[str, Any] = dict(
            gpu_joules=self._joules if measured else NOT_MEASURED)
        if self.country is not None:
            values.update(
                country=self.country,
                kg_co2eq_per_kwh=self._intensity,
                co2eq_grams=1e3 * self._joules / JOULES_PER_KWH * self._intensity
                if self._joules is not None and self._intensity is not None else
                NOT_MEASURED)
        return values


def gpu_joules() -> Optional[float]:
    """Counter of the current GPU in joules, None where there is none."""
    if not torch.cuda.is_available() or find_spec('pynvml') is None:
        return None
    import pynvml
    try:
        pynvml.nvmlInit()
        uuid = torch.cuda.get_device_properties(torch.cuda.current_device()).uuid
        handle = pynvml.nvmlDeviceGetHandleByUUID(f'GPU-{uuid}')
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
    except pynvml.NVMLError:
        return None


def check_country(country: str) -> None:
    """Refuse a country that CodeCarbon cannot judge.

    Raises:
        ValueError: It is unknown, or CodeCarbon is not installed.
    """
    if find_spec('codecarbon') is None:
        raise ValueError(
            f'country {country!r}: CO2 needs CodeCarbon: pip install '
            '"mmeffmae[energy]"')
    from codecarbon.input import DataSource
    known = DataSource().get_global_energy_mix_data()
    if country not in known:
        raise ValueError(
            f'country {country!r} is unknown to CodeCarbon: use an ISO 3166 code '
            'of three capital letters, such as DEU')


def _tracker(country: str) -> Any:
    from codecarbon import OfflineEmissionsTracker
    tracker = OfflineEmissionsTracker(
        country_iso_code=country,
        save_to_file=False,
        log_level='error',
        allow_multiple_runs=True)
    tracker.start()
    return tracker
