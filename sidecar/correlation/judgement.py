"""What an alert counts for, once it is known what was really run: groups fall away, others are added.

The Falco rules are broad; what their alerts mean is decided here, by `sidecar.meaning` and by what is remembered of the
process and its container. Each group that falls away has a reason that is counted.
"""

from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from typing import NamedTuple

from sidecar.correlation.memory.container import Container
from sidecar.correlation.memory.process import Process
from sidecar.correlation.memory.servers import SERVING_TAG
from sidecar.meaning import identity, secrets
from sidecar.meaning.identity import OPENS, Why
from sidecar.meaning.program import Program, program
from sidecar.meaning.script import is_of_application, tools_named
from sidecar.meaning.secrets import EXECS
from sidecar.meaning.service import Nature, nature
from sidecar.meaning.tables import current
from sidecar.model import Alert, Fields

OPENED_CODE = "webrce_code"
"""Tag of the Falco rule that fires when code is opened that is not of the image."""


class Judgement:
    """An alert with what is known of its process, its program and its files.

    What its program is costs more than all else of an alert, so it is asked only where a quick look at the fields
    (`may_...`) leaves the answer open.
    """

    def __init__(self, alert: Alert, container: Container, path: Sequence[Process]) -> None:
        self.alert = alert
        self.fields = alert.fields
        self._container = container
        self.path = path
        self.explains: Alert | None = None
        """A connection that its process made before: now known to be that of dropped code."""

    @cached_property
    def program(self) -> Program:
        """What its process runs."""
        return program(self.fields)

    @cached_property
    def dropped(self) -> Why:
        """Why what its process runs counts as dropped; "" if it does not."""
        if self._runs_opened_code():
            return "opened"
        why = identity.dropped(self.fields, self.program)
        files = self._container.files
        if why == "upper_layer" and files is not None and files.is_older_than_service(self.program.file):
            return ""
        return why

    def learn(self) -> None:
        """Remember what the alert shows of the container's files and of the code that its process runs."""
        kind = self.fields.evt_type
        process = self.path[0] if self.path else None
        if SERVING_TAG in self.alert.tags:
            self._container.known_files().learn_serving(self.alert.time)
        if kind in EXECS and process is not None:
            process.runs_dropped = False
            process.tools_named = tools_named(self.fields)
            if self.fields.is_upper:
                self._container.known_files().learn_program(self.fields.exepath or "", self.alert.time)
        elif kind == "connect":
            if process is not None and not process.runs_dropped and identity.may_connect_as_named(self.fields):
                self._container.known_files().learn_connection(self.alert)
        elif kind in OPENS and OPENED_CODE in self.alert.tags:
            self._learn_code()
        elif kind in OPENS and secrets.is_secret(self.fields.file or ""):
            self._container.known_files().learn_secret(self.fields)

    def _learn_code(self) -> None:
        """Remember that the process runs dropped code, unless its file was there before the service served."""
        path = self.fields.file or ""
        files = self._container.known_files()
        if self.fields.is_file_upper:
            files.learn_program(path, self.alert.time)
        if self.path and identity.is_dropped_code(self.fields) and not files.is_older_than_service(path):
            self.path[0].runs_dropped = True
            self.explains = files.take_connection(self.fields)

    def declined(self) -> str:
        """Why the alert shows no theft of credentials; "" if it may. A key of `sidecar.meaning.declined.REASONS`."""
        if identity.asks_for_identity(self.fields) and (
            identity.is_own_identity(self.program, self.dropped)
            or identity.only_sets_metadata(self.fields, self.program)
        ):
            return "own_identity"
        if identity.may_be_login_plugin(self.fields) and identity.is_login_plugin(self.fields, self.program):
            return "own_identity"
        if identity.asks_for_identity(self.fields) and not self.dropped and identity.asks_for_facts(self.fields):
            return "machine_facts"
        if self.moves_data():
            return "moves_data"
        return ""

    def script_shell(self) -> int:
        """The index in the path of the shell whose script did this, if the script is part of the application; 0 if not.

        Only tools may stand between. What a web server starts by itself may be a CGI script, which a request bends.
        """
        path = self.path
        is_shell = current().shells.has_file
        for at in range(1, len(path) - 1):
            process = path[at]
            if is_shell(process.file or process.name):
                if process.runs_dropped or not process.command.startswith("/"):
                    return 0
                is_own = is_of_application(process.command.partition(" ")[0]) and not _is_web_server(path[at + 1])
                return at if is_own and not self._is_named_to(process) else 0
            if nature(process.file or process.name, process.name, process.command) is not Nature.NONE:
                return 0
        return 0

    def _is_named_to(self, script: Process) -> bool:
        """Whether the arguments of a script name the tool that acts, so that the script does what its caller says."""
        name = self.program.name
        return name in script.tools_named or script.command.partition(" ")[2] == name

    def reaches_for_others(self) -> bool:
        """Whether it was dropped, or takes a secret that is not its workload's own identity."""
        return bool(self.dropped) or self.names_secret() or self.reads_known_secret()

    def uses_identity(self) -> bool:
        """Whether it asks for its workload's identity, directly or by a cloud's command line."""
        return identity.asks_for_identity(self.fields) or identity.is_cloud_client(self.fields, self.program)

    def _runs_opened_code(self) -> bool:
        """Whether its process, or one of the same program that forked it, opened code that was dropped."""
        for process in self.path:
            if process.file != self.path[0].file or (process.name != self.path[0].name and not process.file):
                return False
            if process.runs_dropped:
                return True
        return False

    def contacts_as_dropped(self) -> bool:
        """A dropped program, script or library connects to another machine, or code of a command line to anywhere."""
        if not identity.may_contact(self.fields):
            return False
        if identity.contacts(self.fields, self.program, self.dropped):
            return True
        return identity.may_connect_as_named(self.fields) and identity.is_typed_code(self.program)

    def connects_as_named(self) -> bool:
        """A program connects to a public address that its command names, or is a tunnel."""
        return identity.may_connect_as_named(self.fields) and identity.connects_as_named(self.fields, self.program)

    def names_secret(self) -> bool:
        """A shell or a tool was started with a secret's name, or makes a link to it."""
        return secrets.may_name_secret(self.fields) and secrets.names_secret(self.fields, self.program)

    def reads_known_secret(self) -> bool:
        """A tool or a dropped program opens a secret by another name."""
        files = self._container.files
        if files is None or self.fields.evt_type not in OPENS or not files.secret(self.fields):
            return False
        return self.program.is_general_tool or bool(self.dropped)

    def moves_data(self) -> bool:
        """A cloud's command line copies objects to or from a store."""
        return identity.may_move_data(self.fields) and identity.moves_data(self.fields, self.program)


def _is_web_server(process: Process) -> bool:
    return current().services["web_servers"].has_file(process.file or process.name)


class Trait(NamedTuple):
    """What an alert may show beside what its Falco rule says."""

    events: Collection[str]
    """The types of events that can show it."""
    may_show: Callable[[Fields], bool]
    """A quick look at the fields, which leaves out nearly all."""
    shows: Callable[[Judgement], bool]


TRAITS = {
    "dropped_program_connects": Trait(EXECS | {"connect"}, identity.may_contact, Judgement.contacts_as_dropped),
    "connects_as_named": Trait({"connect"}, identity.may_connect_as_named, Judgement.connects_as_named),
    "names_secret": Trait(EXECS | secrets.LINKS, secrets.may_name_secret, Judgement.names_secret),
    "reads_known_secret": Trait(OPENS, secrets.is_identified, Judgement.reads_known_secret),
    "moves_data": Trait(EXECS, identity.may_move_data, Judgement.moves_data),
}
"""Traits of an alert that a correlation rule may name, beside those of `sidecar.alerts.traits`."""
