"""`python -m rlwatch.adapters.openrlhf train_ppo_ray <OpenRLHF's own flags>`."""

from __future__ import annotations

import sys

from rlwatch.adapters.openrlhf.launching import launch

if __name__ == "__main__":
    sys.exit(launch(sys.argv[1:]))
