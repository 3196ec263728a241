"""What a push did."""

from collections import Counter

from ema_lab.workflow.publish.push import PushOutcome


def counts(outcome: PushOutcome) -> Counter[str]:
    """Return how many runs, with the table of results, were sent, replaced and left unchanged."""
    return Counter(outcome.mirrored.actions.values())
