"""How much of this machine is taken: memory, accelerators, workers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from astraios.studies import machine
from astraios.studies.launchers import Setting
from astraios.studies.needs import Needs

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


@dataclass
class Room:
    """Memory in MiB; a job whose needs are unknown takes a worker's share, and a device alone."""

    n_workers: int
    memory_mib: float
    devices: Mapping[str, float]
    """Name -> memory that jobs may take."""
    _taken: dict[str, _Taken] = field(default_factory=dict)
    _idle: dict[int, float] = field(default_factory=dict)
    """Memory of idle workers' base models."""

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
        if self.devices and wants.n_devices:  # its weights are on the device; here they pass by
            return float(wants.host_mib)
        return float(wants.host_mib)

    def exceeds(self, wants: Needs) -> bool:
        """Whether the machine has less memory than that, empty as it may be."""
        return self.host(wants) > self.memory_mib

    def has_host(self, mib: float) -> bool:
        """Whether so much more of the machine's memory is free."""
        taken = sum(one.host_mib for one in self._taken.values()) + sum(self._idle.values())
        return taken + mib <= self.memory_mib

    def fits(self, wants: Needs, device: str | None, held_mib: float = 0.0) -> bool:
        """Whether a worker at `device` that gives up `held_mib` may do such a job."""
        if not self.has_host(self.host(wants) - held_mib):
            return False
        if not self.devices or not wants.n_devices:
            return True
        if not _one(wants):
            return device is None and self._unused(*self.devices)
        return device is not None and self._has_device(device, wants)

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

    def take(self, job: str, wants: Needs, device: str | None, kept_mib: float) -> None:
        """A job begins, beside a base of `kept_mib` that its worker keeps."""
        self._taken[job] = _Taken(wants, device, self.host(wants) + kept_mib)

    def give_back(self, job: str) -> None:
        """A job has ended."""
        del self._taken[job]

    def idle(self, worker: int, mib: float) -> None:
        """An idle worker has a base of so much in memory."""
        if mib:
            self._idle[worker] = mib
        else:
            self._idle.pop(worker, None)

    def _on(self, device: str) -> int:
        return sum(
            one.device == device or not _one(one.wants)
            for one in self._taken.values()
            if one.wants.n_devices
        )

    def _unused(self, *devices: str) -> bool:
        return not any(map(self._on, devices))

    def _has_device(self, device: str, wants: Needs) -> bool:
        if self._unused(device):
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
        return used + wants.device_mib <= self.devices[device]


def _one(wants: Needs) -> bool:
    """Whether a job takes one device, whichever it is given."""
    return wants.n_devices == 1 and wants.own_device
