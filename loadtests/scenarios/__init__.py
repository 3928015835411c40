"""Load tests: how many users a proxy carries, and what gets slow first.

    make loadtest                              here, Junction beside configurable-http-proxy
    TOKEN=… make loadtest HUB=https://…        a deployment that runs

The way of a run: :mod:`.options` says what is to be done; :mod:`.runner` starts each scenario on
each contestant in turn, again and again; a scenario's module (:mod:`.latency`, :mod:`.churn`,
:mod:`.class_begins`, :mod:`.faults`) says what happens; :mod:`.load` is Locust, in a process of its
own; :mod:`.results` holds what comes of it, :mod:`.metrics` what follows, :mod:`.report` what is
written, and :mod:`.compare` tells two runs' differences from noise.

What starts proxies, and what is known of the machine, is the benchmark's (:mod:`bench`).
"""
