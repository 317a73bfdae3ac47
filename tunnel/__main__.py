"""`python -m tunnel` is `tunnel`."""

from __future__ import annotations

from tunnel.cli.start import main

if __name__ == "__main__":
    main()
