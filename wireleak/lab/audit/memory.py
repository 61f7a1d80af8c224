"""The memory within which the processes of an audit stay."""

from __future__ import annotations

from wireleak.common.targets.memory import DECODER_HIDDEN, DECODER_PARAMETERS, PROCESS_BYTES, Sizes, attack_memory
from wireleak.lab.audit.subject import Subject
from wireleak.lab.run.job import AttackJob
from wireleak.lab.run.limits import Limits

# Attacks that train no decoder.
_SIMPLE = ("linear", "attributes", "word-set", "ladder")


def limits_of(subject: Subject, deadline: float | None = None) -> Limits:
    """Return the limits of a run on `subject`; attacks are estimated from its counts and the shapes at each cut."""
    counts, shape = subject.counts, subject.dataset.input_shape
    shapes = {cut: subject.network.activation_shape(cut) for cut in subject.cuts}

    def needs(job: AttackJob) -> int:
        pairs = counts.attacker * (1 + job.cell.study.serve.copies)
        sizes = Sizes(pairs, counts.victims, shapes[job.cell.variant.cut], shape)
        if job.use.name in _SIMPLE or subject.is_text:
            return attack_memory(sizes)
        return attack_memory(sizes, DECODER_PARAMETERS, DECODER_HIDDEN * subject.pixels)

    inputs = 4 * subject.pixels * max(counts.attacker, counts.victims)
    # The head and two devices, of which one holds the attacker's inputs.
    capture, brief = 2 * PROCESS_BYTES + inputs, subject.is_large
    return Limits(subject.request.memory, needs, capture, deadline, scored=3 * inputs, brief=brief)
