"""How the product speaks to Temporal: one place for ids, queues, payloads, errors and schedules."""
