"""A stand-in for Ray that runs workers in threads of this process."""

from __future__ import annotations

import pickle
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from types import ModuleType


class DiedError(Exception):
    """Raised by a worker that dies, and by all calls of it from then on."""


class TaskError(Exception):
    """An error that a worker has raised."""

    def __init__(self, cause):
        super().__init__(str(cause))
        self.cause = cause


class FakeRay(ModuleType):
    """The part of Ray that the package uses."""

    def __init__(self, nodes):
        super().__init__("ray")
        self._nodes = nodes
        self.actors = []
        self.stored = []

    def nodes(self):
        resources = {"CPU": 1.0}
        return [
            {"Alive": True, "NodeID": name, "NodeManagerHostname": name, "Resources": resources}
            for name in self._nodes
        ]

    def remote(self, **resources):
        return lambda kind: _Remote(self, kind, resources["scheduling_strategy"])

    def put(self, content):
        self.stored.append(content)
        return content

    def init(self, **_):
        """Connect."""

    def wait(self, references, **_):
        for reference in references:
            reference.future().result()

    def kill(self, actor):
        actor.is_dead = True

    def shutdown(self):
        for actor in self.actors:
            actor.threads.shutdown()


class _Remote:
    def __init__(self, ray, kind, node):
        self._ray, self._kind, self._node = ray, kind, node

    def remote(self, *arguments):
        actor = _Actor(self._node, lambda: self._kind(*_copied(arguments)))
        self._ray.actors.append(actor)
        return actor


class _Actor:
    def __init__(self, node, make):
        self.node, self.is_dead = node, False
        self.most, self._computing = 0, []
        """Largest number of segments that it had at once."""
        self.threads = ThreadPoolExecutor(1)
        self._made = self.threads.submit(make)

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return _Method(self, name)

    def count(self, segment):
        self._computing = [*(each for each in self._computing if not each.done()), segment]
        self.most = max(self.most, len(self._computing))

    def _run(self, name, arguments, named):
        if self.is_dead:
            raise DiedError(self.node)
        try:
            return _copied(getattr(self._made.result(), name)(*arguments, **named))
        except DiedError:
            self.is_dead = True
            raise
        except Exception as error:
            raise TaskError(error) from error


class _Method:
    def __init__(self, actor, name):
        self._actor, self._name = actor, name

    def options(self, **_):
        return self

    def remote(self, *arguments, **named):
        run = self._actor._run
        future = self._actor.threads.submit(run, self._name, _copied(arguments), named)
        if self._name == "compute":
            self._actor.count(future)
        return _Reference(future)


class _Reference:
    def __init__(self, future: Future):
        self._future = future

    def future(self):
        return self._future


def _copied(value):
    """What arrives in another process."""
    return pickle.loads(pickle.dumps(value))


def install(monkeypatch, *nodes):
    """Replace Ray by a cluster of nodes with these names, and return it."""
    ray, util = FakeRay(nodes), ModuleType("ray.util")
    strategies = ModuleType("ray.util.scheduling_strategies")
    strategies.NodeAffinitySchedulingStrategy = lambda node, soft: node
    for module in (ray, util, strategies):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return ray
