"""What a server counts, for Prometheus: requests by outcome, the queue, batches, tokens, time, deaths.

Knows numbers and names; knows no request and no model.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)
_FILL = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_UNITS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Meters:
    """The counters of one server."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.requests = Counter(
            "gram_requests", "Requests by endpoint and HTTP status", ["endpoint", "status"], registry=registry
        )
        self.seconds = Histogram(
            "gram_request_seconds",
            "Until a request was answered",
            ["endpoint"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.units = Counter(
            "gram_units",
            "Comparisons and answers by where their numbers came from: new, joined (in flight for another "
            "request), remembered (answered before)",
            ["source"],
            registry=registry,
        )
        self.failures = Counter(
            "gram_failed_units", "Comparisons and answers that got no number", registry=registry
        )
        self.queue = Gauge("gram_queue_units", "Comparisons and answers that wait", registry=registry)
        self.callers = Gauge("gram_queue_callers", "Callers that wait", registry=registry)
        self.batch_units = Histogram(
            "gram_batch_units", "Comparisons and answers of a batch", buckets=_UNITS, registry=registry
        )
        self.batch_fill = Histogram(
            "gram_batch_fill", "Estimated tokens of a batch over the most", buckets=_FILL, registry=registry
        )
        self.batch_seconds = Histogram(
            "gram_batch_seconds", "Until a batch was read", buckets=_SECONDS, registry=registry
        )
        self.tokens = Counter(
            "gram_tokens",
            "Tokens of all prompts; a beginning that several share counts each time",
            registry=registry,
        )
        self.shared = Counter(
            "gram_tokens_shared",
            "Tokens that were not read again, as a prompt of the same batch begins with them (estimated)",
            registry=registry,
        )
        self.truncated = Counter(
            "gram_truncated_units",
            "Comparisons and answers that lost tokens to fit the model",
            registry=registry,
        )
        self.workers = Gauge("gram_workers_ready", "Processes that have a model", registry=registry)
        self.deaths = Counter(
            "gram_worker_deaths", "Processes that died, or were ended as they hung", registry=registry
        )

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self._registry)

    def totals(self) -> dict[str, int]:
        """Units without a number, and processes that died, as the command's result says them."""
        wanted = {"gram_failed_units_total": "failed_units", "gram_worker_deaths_total": "worker_deaths"}
        samples = [sample for metric in self._registry.collect() for sample in metric.samples]
        return {wanted[sample.name]: int(sample.value) for sample in samples if sample.name in wanted}
