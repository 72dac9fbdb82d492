"""Print pip constraints that hold every library at the oldest version that pyproject allows.

python .ci/lower_bounds.py > constraints.txt; pip install -e '.[test]' -c constraints.txt
The tools of the extra `test` stay as new as they come.
"""

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"]
asked = project["dependencies"] + [r for name, e in extras.items() if name != "test" for r in e]
oldest = {found[1]: found[2] for r in asked if (found := re.fullmatch(r"([\w.-]+)>=([\w.]+)", r))}
sys.stdout.writelines(f"{name}=={version}\n" for name, version in sorted(oldest.items()))
