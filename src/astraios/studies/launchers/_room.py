"""How much of this machine is taken: memory, accelerators, workers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from astraios.studies import machine
from astraios.studies.launchers import Setting
from astraios.studies.needs import LIBRARIES_MIB, Needs

__all__ = ["Place", "Room"]


@dataclass(frozen=True)
class Place:
    """Where a new worker would be: at an accelerator, or at none in particular."""

    device: str | None


@dataclass
class _Taken:
    wants: Needs
    device: str | None
    host_mib: float
    kept_mib: float
    """Of the device: a base that the job does not use."""


@dataclass
class Room:
    """Memory in MiB; a job whose needs are unknown takes a worker's share, and a device alone."""

    n_workers: int
    memory_mib: float
    devices: Mapping[str, float]
    """Name -> memory that jobs may take."""
    _taken: dict[str, _Taken] = field(default_factory=dict)
    _idle: dict[int, tuple[float, str | None]] = field(default_factory=dict)
    """Idle worker -> memory of the base model that it holds, and where that is."""

    @classmethod
    def of(cls, setting: Setting, named: Sequence[str] | None = None) -> Self:
        """This machine, as far as `setting` lets jobs have it."""
        found = {device.name: device.mib * machine.SHARE for device in machine.devices()}
        devices = found if named is None else {name: found.get(name, 0.0) for name in named}
        return cls(
            setting.n_workers or max(1, os.cpu_count() or 1),
            setting.max_memory_mib or machine.memory_mib(),
            devices,
        )

    def host(self, wants: Needs) -> float:
        """Memory of the machine that a job is taken to need."""
        if wants.host_mib is None:
            return self.memory_mib / self.n_workers
        if self.devices and wants.n_devices:  # its weights pass by on their way to the device
            return float(min(wants.host_mib, LIBRARIES_MIB + 2 * wants.base_mib))
        return float(wants.host_mib)

    def exceeds(self, wants: Needs) -> bool:
        """Whether the machine has less memory than that, empty as it may be."""
        return self.host(wants) > self.memory_mib

    def has_host(self, mib: float) -> bool:
        """Whether so much more of the machine's memory is free."""
        return self._host_taken() + mib <= self.memory_mib

    def _host_taken(self) -> float:
        kept = sum(mib for mib, device in self._idle.values() if device is None)
        return sum(one.host_mib for one in self._taken.values()) + kept

    def fits(self, wants: Needs, device: str | None, held_mib: float = 0.0) -> bool:
        """Whether a worker at `device` that gives up `held_mib` may do such a job."""
        if not self.has_host(self.host(wants) - (held_mib if device is None else 0.0)):
            return False
        if not self.devices or not wants.n_devices:
            return True
        if not _one(wants):
            return device is None and self._unused(*self.devices)
        return device is not None and self._has_device(device, wants, held_mib)

    def place_for(self, wants: Needs) -> Place | None:
        """Where a new worker may do such a job; None where there is no room."""
        if not self.has_host(self.host(wants)):
            return None
        if not self.devices or not wants.n_devices:
            return Place(None)
        if not _one(wants):
            return Place(None) if self._unused(*self.devices) else None
        free = [name for name in self.devices if self._has_device(name, wants)]
        # The emptiest first, so that no device is idle while another has two jobs.
        return Place(min(free, key=self._on)) if free else None

    def empty_place(self, wants: Needs) -> str | None:
        """The device for a job that runs alone: the largest."""
        if not self.devices or not wants.n_devices or not _one(wants):
            return None
        return max(self.devices, key=lambda name: self.devices[name])

    def keeps(self, wants: Needs, device: str | None, kept_mib: float) -> bool:
        """Whether a worker may keep a base of so much beside a job that does not use it."""
        if self.devices and device is not None:  # the base is on the device
            return not wants.n_devices and self.has_host(self.host(wants))
        return self.has_host(self.host(wants) + kept_mib)

    def take(self, job: str, wants: Needs, device: str | None, kept_mib: float) -> None:
        """A job begins, beside a base of `kept_mib` that its worker keeps."""
        on_host = kept_mib if device is None else 0.0
        self._taken[job] = _Taken(wants, device, self.host(wants) + on_host, kept_mib - on_host)

    def give_back(self, job: str) -> None:
        """A job has ended."""
        del self._taken[job]

    def idle(self, worker: int, mib: float, device: str | None = None) -> None:
        """An idle worker at `device` has a base of so much in memory."""
        if mib:
            self._idle[worker] = mib, device if self.devices else None
        else:
            self._idle.pop(worker, None)

    def _on(self, device: str) -> int:
        return sum(
            one.device == device or not _one(one.wants)
            for one in self._taken.values()
            if one.wants.n_devices
        )

    def _unused(self, *devices: str) -> bool:
        return not any(map(self._on, devices)) and not any(map(self._kept, devices))

    def _kept(self, device: str) -> float:
        """Memory of a device that idle workers' base models have."""
        idle = sum(mib for mib, at in self._idle.values() if at == device)
        return idle + sum(one.kept_mib for one in self._taken.values() if one.device == device)

    def _has_device(self, device: str, wants: Needs, held_mib: float = 0.0) -> bool:
        kept = self._kept(device) - held_mib
        if not self._on(device) and kept <= 0:
            return True
        there = [one.wants for one in self._taken.values() if one.wants.n_devices]
        if wants.device_mib is None or any(
            one.device_mib is None or not _one(one) for one in there
        ):
            return False
        used = sum(
            one.wants.device_mib or 0
            for one in self._taken.values()
            if one.wants.n_devices and one.device == device
        )
        return kept + used + wants.device_mib <= self.devices[device]


def _one(wants: Needs) -> bool:
    """Whether a job takes one device, whichever it is given."""
    return wants.n_devices == 1 and wants.own_device
