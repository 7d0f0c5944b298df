"""Links from a page to files outside docs/ lead to the repository: the site holds only docs/."""

import re
from typing import Any

FILES = "https://github.com/otel-drift/otel-drift/blob/main/"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace ``](../x)``, which is right where the pages are read in the repository.

    >>> on_page_markdown("[rules](../prometheus/rules)")
    '[rules](https://github.com/otel-drift/otel-drift/blob/main/prometheus/rules)'

    A picture would be fetched from another host when the page is opened; a link is not.

    >>> on_page_markdown("![Delay](../benchmarks/results/delay.png)")
    '[Picture: Delay](https://github.com/otel-drift/otel-drift/blob/main/benchmarks/results/delay.png)'
    """
    markdown = re.sub(r"!\[([^\]]*)\]\(\.\./", r"[Picture: \1](../", markdown)
    return re.sub(r"\]\(\.\./", f"]({FILES}", markdown)
