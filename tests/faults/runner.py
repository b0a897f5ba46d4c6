"""Runs faults, all at the same time: each has a tenant, a proxy and an application of its own, and mostly waits."""

from __future__ import annotations

import faulthandler
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from devserver.openbao import HOST
from devserver.proxy import Proxy
from tests.backends import Backend
from tests.faults import clustered
from tests.faults.catalogue import CATALOGUE, Fault, World
from tests.faults.clustered import lose_the_active_node
from tests.faults.network import Authority, forgetful_resolver
from tests.faults.nodes import Node, single_node
from tests.faults.processes import PROCESS_FAULTS, ProcessFault, Scene
from tests.faults.tenant import Database, Tenant
from tests.faults.trial import EXIT_SECONDS, PATIENT, Pace, Trial, Watchers
from tests.faults.waiting import wait_for
from vaultkit.errors import ClientClosed, LoginRefused, NoAnswer

GRACE_SECONDS = 20.0
"""How much longer than allowed is waited, so that the test can say how long it took; and what a busy machine needs."""
LONGEST_RUN_SECONDS = 240.0
"""How long all trials together may take beyond an outage."""


@dataclass(frozen=True)
class ClusterFault:
    """The one row that needs three servers."""

    name: str = clustered.NAME
    how: str = clustered.HOW
    says: str = clustered.SAYS


AnyFault = Fault | ProcessFault | ClusterFault
ALL_FAULTS: Sequence[AnyFault] = [*CATALOGUE, ClusterFault(), *PROCESS_FAULTS]


@dataclass(frozen=True)
class Result:
    """What came of one fault."""

    recovery: float
    """Seconds from the end of the fault until all was well, or until the program ended."""
    requests: int
    """What the whole program asked during the fault."""
    complaints: Sequence[str]
    """What it did and should not have done; or what it left undone."""


HUNG = Result(0.0, 0, ["did not come to an end"])


class Runner:
    """What all trials share: the server, the database, the certificates."""

    def __init__(self, backend: Backend, folder: Path, pace: Pace) -> None:
        self._backend, self._folder, self._pace = backend, folder, pace
        self._authority = Authority(folder)
        self.watchers = Watchers()

    def run(self, faults: Sequence[AnyFault], tell: Callable[[str], object]) -> dict[str, Result]:
        """What came of each fault, by its name. One that hangs is one that fails; where it hangs is printed.

        `tell` hears once a second how far it is.
        """
        results: dict[str, Result] = {}
        # What has processes of its own takes longest, and so begins first.
        waiting = iter(sorted(faults, key=lambda fault: isinstance(fault, Fault)))
        turn = threading.Lock()

        def try_out_all() -> None:
            while True:
                with turn:
                    fault = next(waiting, None)
                if fault is None:
                    return
                results[fault.name] = self._try_out(fault)

        with self._logging(), forgetful_resolver() as self._unknown_names:
            threads = [threading.Thread(target=try_out_all, daemon=True) for _ in range(self._pace.at_once)]
            for thread in threads:
                thread.start()
            deadline = time.monotonic() + self._pace.outage + LONGEST_RUN_SECONDS
            of = f"of {len(faults)} faults tried"
            wait_for(threads, lambda passed: tell(f"{passed:.0f} s, {len(results)} {of}"), deadline)
        if len(results) < len(faults):
            faulthandler.dump_traceback()
        return {fault.name: results.get(fault.name, HUNG) for fault in faults}

    @contextmanager
    def _logging(self) -> Iterator[None]:
        root, urllib3 = logging.getLogger(), logging.getLogger("urllib3")
        before = root.level, urllib3.level
        root.addHandler(self.watchers)
        root.setLevel(logging.INFO)
        urllib3.setLevel(logging.DEBUG)
        try:
            yield
        finally:
            root.removeHandler(self.watchers)
            root.setLevel(before[0])
            urllib3.setLevel(before[1])

    def _try_out(self, fault: AnyFault) -> Result:
        name = "fault-" + re.sub(r"\W+", "-", fault.name).lower()
        folder = self._folder / name
        folder.mkdir()
        try:
            with ExitStack() as stack:
                if isinstance(fault, Fault):
                    return self._watch(fault, self._world(fault, name, folder, stack))
                if isinstance(fault, ProcessFault):
                    return self._act(fault, name, stack)
                return self._lose_a_node(folder, stack)
        except Exception as error:  # a trial that breaks is one row that fails
            logging.getLogger(__name__).exception("%s", fault.name)
            return Result(0.0, 0, [f"{type(error).__name__}: {error}"])

    def _world(self, fault: Fault, name: str, folder: Path, stack: ExitStack) -> World:
        """A tenant that has moved in, and its application, which is well."""
        node = stack.enter_context(single_node(folder)) if fault.own_server else None
        database_proxy = stack.enter_context(Proxy(self._postgres).running())
        tenant = Tenant(
            name,
            node.root if node else self._backend.root,
            self._database(database_proxy),
            own_mounts=fault.own_mounts or fault.own_server,
            lease=self._pace.lease,
        )
        if fault.short_token:
            tenant.token = {"token_period": self._pace.short_token}
        fault.prepare(tenant)
        if fault.login is not None:
            tenant.login = stack.enter_context(fault.login(tenant, folder))
            tenant.login.set_token(self._pace.short_token if fault.short_token else "5m")
        tenant.move_in()
        tls = self._authority.good() if fault.tls else None
        proxy = stack.enter_context(Proxy(self._address(node), tls=tls).running())
        environ = {"VAULT_CA_FILE": str(self._authority.file)} if fault.tls else {}
        if not fault.hangs:
            environ["HTTP_TIMEOUT"] = PATIENT
        if fault.renews:
            environ["DATABASE_DYNAMIC_ON_EXPIRY"] = "renew"
        if fault.by_name:
            environ["VAULT_URL"] = f"http://{name}.test:{proxy.port}"
        trial = Trial(tenant, proxy, self._pace, self.watchers, **environ)
        stack.callback(trial.stop)
        trial.start()
        return World(tenant, proxy, trial, database_proxy, node, self._authority, self._unknown_names)

    def _act(self, fault: ProcessFault, name: str, stack: ExitStack) -> Result:
        """What happens to a process."""
        database = Database(self._backend.database, self._backend.superuser, seen_by_server="")
        tenant = Tenant(name, self._backend.root, database, token={"token_period": fault.token}).move_in()
        proxy = stack.enter_context(Proxy(self._address(None)).running())
        scene = Scene(tenant, proxy, stack)
        took = fault.act(scene)
        secrets = [tenant.secret_id, *map(tenant.value, range(1, tenant.versions + 1))]
        leaks = [f"showed a secret of {len(secret)} characters" for secret in secrets if secret in scene.output]
        tracebacks = ["printed a traceback"] if "Traceback" in scene.output else []
        return Result(took, scene.requests, [*scene.complaints, *leaks, *tracebacks])

    def _lose_a_node(self, folder: Path, stack: ExitStack) -> Result:
        database_proxy = stack.enter_context(Proxy(self._postgres).running())
        trial, recovery, requests, complaints = lose_the_active_node(
            folder, self._database(database_proxy), self._pace, self.watchers, stack
        )
        trial.stop()
        complaints += [breach for reader in trial.readers.values() for breach in reader.breaches[:3]]
        if trial.status != 0:
            complaints.append(f"ended with status {trial.status}")
        return Result(recovery, requests, [*complaints, *self._leaks(trial)])

    def _database(self, proxy: Proxy) -> Database:
        """The shared database, which the server reaches through a proxy."""
        return Database(self._backend.database, self._backend.superuser, f"host={HOST}&port={proxy.port}")

    @property
    def _postgres(self) -> str:
        return f"{self._backend.database['host']}/.s.PGSQL.{self._backend.database['port']}"

    def _address(self, node: Node | None) -> tuple[str, int]:
        return (HOST, node.port if node else int(self._backend.url.rpartition(":")[2]))

    # ── One trial ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _watch(self, fault: Fault, world: World) -> Result:
        trial, patience = world.trial, self._pace.bound + GRACE_SECONDS
        for reader in trial.readers.values():
            reader.errors.clear()
            reader.stale = 0
        began = time.monotonic()
        fault.begin(world)
        if fault.outcome.ends:
            ended = time.monotonic()
            trial.wait_until(lambda: trial.status is not None, self._pace.outage + patience, "it did not end")
        else:
            if fault.lasts:
                time.sleep(max(0.0, began + self._pace.outage - time.monotonic()))
            ended = time.monotonic()
            fault.end(world)
            value = fault.served_at_the_end(world.tenant)
            trial.wait_until(lambda: trial.is_well(value), patience, "it did not become well again")
        well = time.monotonic()
        requests = trial.requests(began, ended if fault.lasts and not fault.outcome.ends else well)
        exit_took = trial.stop()
        return Result(well - ended, requests, [*self._complaints(fault, trial, exit_took), *self._leaks(trial)])

    def _complaints(self, fault: Fault, trial: Trial, exit_took: float) -> Iterator[str]:
        outcome = fault.outcome
        for engine, reader in trial.readers.items():
            allowed = outcome.allowed
            if engine != "kv_secret":
                allowed += (NoAnswer,)  # credentials end; when they may, the reader has judged
            if outcome.ends:
                allowed += (NoAnswer, LoginRefused, ClientClosed)
            yield from (f"{engine}: {breach}" for breach in reader.breaches[:3])
            yield from (f"{engine}: raised {kind.__name__}" for kind in reader.errors if not issubclass(kind, allowed))
        if outcome.must_raise and not trial.kv.errors:
            yield "kv_secret: should have raised an error"
        if outcome.must_be_stale and not trial.kv.stale:
            yield "kv_secret: should have been marked stale"
        if trial.status != (1 if outcome.ends else 0):
            yield f"ended with status {trial.status}"
        if exit_took > EXIT_SECONDS:
            yield f"took {exit_took:.1f} s to end"
        if outcome.ends and "Vault refused the login" not in trial.screen.getvalue():
            yield "did not say why it ended"
        if "unexpected" in trial.screen.getvalue():
            yield "met an error that nobody planned for"

    def _leaks(self, trial: Trial) -> Iterator[str]:
        output = "\n".join([trial.output(), *self.watchers.lines])
        yield from (f"showed a secret of {len(secret)} characters" for secret in trial.secrets() if secret in output)
