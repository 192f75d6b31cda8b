"""From a decided notification to a sink that has accepted it: outbox, queues, retries; and raw alerts passed through.

Belongs here: order, retries and loss accounting. Does not: the protocol of a sink (`sinks`) or the tables (`storage`).
"""
