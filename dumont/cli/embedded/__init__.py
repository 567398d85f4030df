"""The embedded stack: the whole product on one machine, under one supervisor.

`dumont demo` runs it with a cloud in a box, `dumont serve` with the user's clouds. Production runs
the same parts under docker compose instead.

    commands    what the command line offers
    run         one run in the foreground
    parts       the product's processes, and which stack is made of what
    servers     PostgreSQL, Temporal, S3
    cloud       the cloud in a box; power_on: its machines, when a demo starts again
    environment settings as environment variables, and back
    stacks      which stacks there are here
    layout      ports, addresses, environment
    supervisor  starts, watches, restarts, stops processes
    processes   process identities
    state       the state directory
    logs        bounded log files
    login       logs the command line in
    summary     what a person reads
"""
