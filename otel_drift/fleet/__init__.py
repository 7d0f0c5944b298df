"""The fleet's own detector: all replicas of a model read as one stream.

Class counts add up; evidence does not pool what each replica sees a little of. `FleetDetector`
reads what all replicas together have predicted since the last tick of a clock, `service` asks
Prometheus for that, and `telemetry` exports what it finds under the names that processes use.

.. code-block:: console

    $ otel-drift fleet --prometheus http://localhost:9090 --state /var/lib/otel-drift/fleet.json

The page *The fleet's detector* in the documentation has the bounds and the figures.
"""
