"""An execution context: the place within which detections are related, its evidence, and its open incident."""

from collections.abc import Iterator
from operator import attrgetter

from msgspec import Struct, field
from msgspec.structs import replace

from sidecar.correlation.memory.process import Process
from sidecar.correlation.memory.tally import ENTRY_BYTES, PARTS, Tally, value_of
from sidecar.model import Alert, Detection, Span
from sidecar.packed_alert import pack
from sidecar.rules.change import Successor
from sidecar.rules.rule import CorrelationRule

DETECTIONS_PER_GROUP = 64
"""Detections kept in the timeline for each context and group; beyond that only first, last and count are updated."""

MAX_TIMELINE = 4 * DETECTIONS_PER_GROUP
"""Detections in the timeline of a context that has absorbed others."""

MAX_SESSIONS = 256
"""Session ids remembered for each context, and foreign ones for each container."""

JOB_SUBMITTERS = frozenset(("at", "batch"))
"""Programs that hand work over to a daemon, which starts it as its own child."""

MAX_EXPECTED = 16
"""Expected detections kept in the timeline of each context."""

MAX_UIDS = 16
"""Users that are remembered for each context."""

SHORTENED_CHARS = 80
"""Characters left of a text when memory is short."""

OVERHEAD_BYTES = 700
"""Bytes of a detection in a timeline beside its texts."""

SHORTENED_BYTES = OVERHEAD_BYTES + SHORTENED_CHARS
"""Bytes of a detection whose texts were shortened."""


def size(detection: Detection) -> int:
    """The bytes that a detection takes in a timeline."""
    return OVERHEAD_BYTES + len(detection.cmdline) + len(detection.detail) + len(detection.packed)


class OpenIncident(Struct):
    """A case that came true in one context and is still open.

    `rank` is that of the strongest notification so far, `case` the best row of the case table reached, `step` the
    number of notifications. `first` and `last` are event times (ns) of its evidence, `count` its number of detections.
    """

    id: str
    previous: str
    case: int
    rank: int
    step: int
    severity: str
    first: int
    last: int
    count: int
    drops_before: int
    """Drop events of Falco, on all hosts, that the correlator had counted when it was opened."""
    incomplete: bool = False
    """Falco dropped events on its host while it was open: evidence may be missing."""

    def add(self, time: int, case: int) -> None:
        """Count one more detection at `time` (ns), and note the case that holds with it (-1 for none)."""
        self.count += 1
        if time > self.last:
            self.last = time
        elif time < self.first:
            self.first = time
        if 0 <= case < self.case:
            self.case = case


class Context(Struct):
    """One execution context of one correlation rule: its anchor process and the evidence of its members.

    `anchor` is a pid, `name` that process's name; `is_service` is false when the anchor itself is the first detection
    (systemd starts a shell). `started` is the start time (ns) of the earliest anchoring process, `init_epoch` the first
    process of the container at that time, 0 if unknown. `spans` are by bit number of the group.
    """

    anchor: int
    name: str
    is_service: bool
    started: int
    init_epoch: int
    spans: dict[int, Span]
    timeline: list[Detection]
    sessions: set[int]
    shell_pid: int = 0
    """Pid of the earliest anchoring process."""
    uids: set[int] = field(default_factory=set)
    """Users that its first processes ran as."""
    jobs_since: int = 0
    """When a member first handed work over to a job daemon (ns); 0 if none did."""
    newest: int = 0
    """Event time (ns) of the newest evidence."""
    anchor_start: int = 0
    """Start time (ns) of the anchor, 0 if unknown."""
    anchor_renewed: int = 0
    """Event time (ns) from which anchoring evidence ages: every detection of the lineage renews it."""
    incident: OpenIncident | None = None
    timeline_bytes: int = 0
    active_groups: int = 0
    """Mask of the groups that count at the newest evidence."""
    mask_valid_until: int = 0
    """Event time (ns) up to which newer evidence only adds its own groups to the mask."""
    tallies: dict[int, Tally] = field(default_factory=dict)
    """What conditions count, by the bit of the counter."""

    def count_values(self, alert: Alert, groups: int, rule: CorrelationRule) -> tuple[int, int]:
        """Count what conditions ask for in a detection of these groups.

        Returns:
            The bytes by which what is kept grew, and how many values were given up since the last call.
        """
        grown = evicted = 0
        for bit, counter, mask in rule.counter_bits:
            value = value_of(counter.field, alert) if groups & mask else None
            if value is None or value == "":
                continue
            tally = self.tallies.get(bit)
            if tally is None:
                part_ns = (counter.within or rule.window) // PARTS
                tally = self.tallies[bit] = Tally(counter, mask, max(part_ns, 1))
            before = tally.size
            self._note_true(bit, tally.add(alert.time, hash(value), groups))
            grown += (tally.size - before) * ENTRY_BYTES
            evicted += tally.shed
            tally.shed = 0
        self.timeline_bytes += grown
        return grown, evicted

    def add(
        self, detection: Detection, rule: CorrelationRule, shell: Process | None = None, alert: Alert | None = None
    ) -> int:
        """Add one detection. Returns the bytes by which the timeline grew.

        `shell` is the web shell that it comes from, if that is known; `alert` is kept for pages.
        """
        time = detection.time
        is_anchoring = detection.groups & rule.renewed
        has_room = self._count(detection)
        if time > self.anchor_renewed and (is_anchoring or time - self.anchor_renewed <= rule.window):
            self.anchor_renewed = time
        if self.newest <= time <= self.mask_valid_until and not is_anchoring:
            self.newest = time
            self.active_groups |= detection.groups
        else:
            self._update_mask(time, rule)
            if shell is not None and self._has_stale_groups(time - rule.idle_timeout):
                self.active_groups |= self._groups_of_living(shell, time - rule.idle_timeout)
        if not has_room:
            return 0
        return self._keep(detection, alert)

    def add_expected(self, detection: Detection, alert: Alert | None = None) -> int:
        """Show a detection that is expected here, and counts for nothing. Returns the bytes of it."""
        if sum(bool(each.expected) for each in self.timeline) >= MAX_EXPECTED:
            return 0
        return self._keep(detection, alert)

    def _keep(self, detection: Detection, alert: Alert | None) -> int:
        if alert is not None:
            detection = replace(detection, packed=pack(alert))
        self.timeline.append(detection)
        grown = size(detection)
        self.timeline_bytes += grown
        return grown

    def _note_true(self, bit: int, time: int) -> None:
        """Note that the condition of a counter was true at `time` (ns); 0 if it was not."""
        if not time:
            return
        span = self.spans.setdefault(bit, Span(time, time, 0))
        span.first, span.last = min(span.first, time), max(span.last, time)
        self.mask_valid_until = 0

    def starts_earlier(self, alert: Alert) -> bool:
        """Note an anchoring alert. Returns whether its process started before the others."""
        started = alert.fields.start or alert.time
        if started >= self.started:
            return False
        self.started = started
        self.shell_pid = alert.fields.pid or 0
        return True

    def add_user(self, uid: int | None) -> None:
        """Remember a user that an anchoring process ran as."""
        if uid is not None and len(self.uids) < MAX_UIDS:
            self.uids.add(uid)

    def submit_job(self, time: int) -> bool:
        """Note that a member handed over a job at `time` (ns). Returns whether that is news."""
        if 0 < self.jobs_since <= time:
            return False
        self.jobs_since = time
        return True

    def _count(self, detection: Detection) -> bool:
        """Count a detection for each of its groups. Returns whether the timeline has room for it."""
        time = detection.time
        has_room = False
        for bit in _BITS.get(detection.groups) or _bits(detection.groups):
            span = self.spans.get(bit)
            if span is None:
                self.spans[bit] = Span(time, time)
                has_room = True
                continue
            span.count += 1
            if time > span.last:
                span.last = time
            elif time < span.first:
                span.first = time
            has_room = has_room or span.count <= DETECTIONS_PER_GROUP
        return has_room

    def _update_mask(self, time: int, rule: CorrelationRule) -> None:
        """Determine which groups count now, and how long that holds."""
        self.newest = max(self.newest, time)
        self.active_groups = self.groups_within_window(rule)
        expiring = self.active_groups & ~rule.sticky
        renewed = [
            self.anchor_renewed if rule.renewed >> bit & 1 else span.last
            for bit, span in self.spans.items()
            if expiring >> bit & 1
        ]
        self.mask_valid_until = min(renewed, default=self.newest) + rule.window

    def case(self, detection: Detection, rule: CorrelationRule) -> int:
        """The case that holds with a detection just added, -1 for none.

        One from long before the newest evidence, as after a step of the clock, counts in the windows that it lies in.
        """
        case = rule.outcomes[self.active_groups]
        if detection.time >= self.newest - rule.window:
            return case
        cases = [case, *(rule.outcomes[mask] for mask in self._masks_since(detection, rule))]
        return min((each for each in cases if each >= 0), default=-1)

    def _masks_since(self, added: Detection, rule: CorrelationRule) -> Iterator[int]:
        """The groups that counted at each detection of the window that begins with one."""
        last: dict[int, int] = {}
        sticky = sum(1 << bit for bit in self.spans) & rule.sticky
        renewed = 0
        for each in sorted([*self.timeline, added], key=attrgetter("time")):
            time = each.time
            if time > added.time + rule.window:
                return
            last |= dict.fromkeys(_bits(each.groups), time)
            if each.groups & rule.renewed or time - renewed <= rule.window:
                renewed = time
            if time >= added.time:
                counting = sum(1 << bit for bit, seen in last.items() if seen >= time - rule.window)
                anchoring = sum(1 << bit for bit in last if rule.renewed >> bit & 1)
                counting |= self._counters_at(time, rule)
                yield sticky | counting | (anchoring if time - renewed <= rule.window else 0)

    def _counters_at(self, time: int, rule: CorrelationRule) -> int:
        """The counters whose condition was true within the window before a time (ns)."""
        spans = ((bit, self.spans.get(bit)) for bit, _, _ in rule.counter_bits)
        return sum(1 << bit for bit, span in spans if span and span.first <= time <= span.last + rule.window)

    def _has_stale_groups(self, horizon: int) -> bool:
        """Whether groups of an incident open since a time (ns) no longer count, as they were seen too long ago."""
        if self.incident is None or self.incident.last < horizon:
            return False
        return any(not self.active_groups >> bit & 1 for bit in self.spans)

    def _groups_of_living(self, shell: Process, horizon: int) -> int:
        """Groups that the same living shell gave since a time (ns): a pause does not make its evidence another's."""
        since = max(shell.start or shell.parent_since, horizon)
        mask = 0
        for each in self.timeline:
            if each.time >= since and any(pid == shell.pid for pid, _ in each.path):
                mask |= each.groups
        return mask

    def groups_within_window(self, rule: CorrelationRule) -> int:
        """The mask of groups that count at the newest evidence."""
        mask = 0
        horizon = self.newest - rule.window
        for bit, span in self.spans.items():
            group = 1 << bit
            if rule.sticky & group or (self.anchor_renewed if rule.renewed & group else span.last) >= horizon:
                mask |= group
        return mask

    def shorten(self) -> None:
        """Drop the alerts of the timeline; after that its middle half, as its ends tell most; then cut its texts."""
        quarter = max(len(self.timeline) // 4, 1)
        if any(each.packed for each in self.timeline):
            self.timeline = [replace(each, packed=b"") for each in self.timeline]
        elif len(self.timeline) > 2 * quarter:
            del self.timeline[quarter : len(self.timeline) - quarter]
        elif self.timeline_bytes > SHORTENED_BYTES * len(self.timeline):
            self.timeline = [
                replace(each, cmdline=each.cmdline[:SHORTENED_CHARS], detail=each.detail[:SHORTENED_CHARS])
                for each in self.timeline
            ]
        elif self.tallies:
            for tally in self.tallies.values():
                tally.clear()
        else:
            return
        self.timeline_bytes = self._bytes()

    def _bytes(self) -> int:
        tallied = sum(tally.size for tally in self.tallies.values()) * ENTRY_BYTES
        return sum(map(size, self.timeline)) + tallied

    def absorb(self, other: "Context") -> None:
        """Take over the evidence of a narrower context that turned out to lie inside this one."""
        for bit, span in other.spans.items():
            own = self.spans.get(bit)
            if own is None:
                self.spans[bit] = span
            else:
                own.join(span)
        self._extend_timeline(other)
        self._absorb_tallies(other)
        if other.started < self.started:
            self.started = other.started
            self.shell_pid = other.shell_pid
        self.uids |= other.uids
        self.jobs_since = min(self.jobs_since or other.jobs_since, other.jobs_since or self.jobs_since)
        if other.anchor_renewed > self.anchor_renewed:
            self.anchor_renewed = other.anchor_renewed
        if other.newest > self.newest:
            self.newest = other.newest
        if self.incident is None:
            self.incident = other.incident
        self.mask_valid_until = 0

    def _absorb_tallies(self, other: "Context") -> None:
        for bit, tally in other.tallies.items():
            if bit in self.tallies:
                self._note_true(bit, self.tallies[bit].absorb(tally))
            else:
                self.tallies[bit] = tally

    def translate(self, successor: Successor) -> bool:
        """Translate groups and case to those of a changed rule. Returns whether any of the evidence still counts."""
        bits = successor.bits
        self.spans = {bits[bit]: span for bit, span in self.spans.items() if bit in bits}
        translated = [(each, successor.mask(each.groups)) for each in self.timeline]
        self.timeline = [replace(each, groups=mask) for each, mask in translated if mask or not each.groups]
        self.tallies = {bits[bit]: tally for bit, tally in self.tallies.items() if bit in bits}
        for tally in self.tallies.values():
            tally.translate(successor.mask)
        self.timeline_bytes = self._bytes()
        self.active_groups = successor.mask(self.active_groups)
        self.mask_valid_until = 0
        if self.incident is not None:
            self.incident.case = successor.case(self.incident.case, self.active_groups)
        return bool(self.spans)

    def _extend_timeline(self, other: "Context") -> None:
        room = MAX_TIMELINE - len(self.timeline)
        if room >= len(other.timeline):
            self.timeline += other.timeline
            self.timeline_bytes += other.timeline_bytes
        else:
            fitting = other.timeline[: max(room, 0)]
            self.timeline += fitting
            self.timeline_bytes += sum(map(size, fitting))


_BITS: dict[int, tuple[int, ...]] = {}


def _bits(mask: int) -> tuple[int, ...]:
    """The numbers of the bits that are set. The cache stays small: there are as many masks as case table entries."""
    return _BITS.setdefault(mask, tuple(bit for bit in range(mask.bit_length()) if mask >> bit & 1))
