"""Print which modules a program that imports nothing has."""

import json
import sys

print(json.dumps(sorted(sys.modules)))
