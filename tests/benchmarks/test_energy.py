# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Energy is counted or not measured, never estimated."""
import sys
from types import SimpleNamespace

import pytest

from mmeffmae.benchmarks import energy
from mmeffmae.benchmarks.energy import NOT_MEASURED, EnergyMeter


def test_without_a_counter(monkeypatch):
    monkeypatch.setattr(energy.torch.cuda, 'is_available', lambda: False)
    with EnergyMeter() as meter:
        pass
    assert meter.record() == dict(gpu_joules=NOT_MEASURED)


@pytest.fixture
def tools(monkeypatch):
    """A counter that reads 5 J and then 3,605 J, and a tracker."""
    readings = iter([5.0, 3605.0])
    monkeypatch.setattr(energy, 'gpu_joules', lambda: next(readings))
    data = SimpleNamespace(emissions=0.2, energy_consumed=0.5)

    class Tracker:
        final_emissions_data = data

        def __init__(self, country_iso_code, **kwargs):
            assert country_iso_code == 'DEU' and kwargs['save_to_file'] is False

        def start(self):
            pass

        def stop(self):
            pass

    class DataSource:

        def get_global_energy_mix_data(self):
            return dict(DEU={})

    for name, module in (
            ('codecarbon', SimpleNamespace(OfflineEmissionsTracker=Tracker)),
            ('codecarbon.input', SimpleNamespace(DataSource=DataSource))):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(energy, 'find_spec', lambda name: True)


def test_counter_and_country(tools):
    with EnergyMeter('DEU') as meter:
        pass
    record = meter.record()
    assert record['gpu_joules'] == 3600.0
    # 0.001 kWh at 400 g a kWh.
    assert record['co2eq_grams'] == pytest.approx(0.4)


def test_no_country_no_co2(tools):
    with EnergyMeter() as meter:
        pass
    assert meter.record() == dict(gpu_joules=3600.0)


def test_unknown_country(tools):
    with pytest.raises(ValueError, match="'GER' is unknown.*such as DEU"):
        EnergyMeter('GER')


def test_codecarbon_is_optional(monkeypatch):
    monkeypatch.setattr(energy, 'find_spec', lambda name: None)
    with pytest.raises(ValueError, match=r'mmeffmae\[energy\]'):
        EnergyMeter('DEU')
