"""The Grafana dashboards as code; ``python -m grafana`` writes their JSON.

*Models* (`grafana.models`) shows all models at a glance, *One model* (`grafana.one_model`) what
one of them predicts, *Training* (`grafana.training`) how models were trained. They read the
records of ``prometheus/rules`` wherever there is one, and need Grafana 10.1 or later:

>>> from grafana.__main__ import DASHBOARDS
>>> [board().build().title for board in DASHBOARDS.values()]
['Models', 'One model', 'Training']
"""
