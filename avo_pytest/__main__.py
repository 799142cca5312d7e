# SPDX-License-Identifier: MIT
"""`python -m avo_pytest` is `avo`."""

import sys

from avo_pytest.cli import main

sys.exit(main())
