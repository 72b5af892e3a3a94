"""Starts a server and has page.mjs look at its page.

    page.py PROGRAM [FOLDER_FOR_SCREENSHOTS]
"""

import os
import subprocess
import sys
from pathlib import Path

from world import Server

with Server(sys.argv[1], options=["--min-budget", "2"]) as server:
    # Its packages are beside the script, wherever it was copied to.
    script = os.environ.get("CLIENTS_PAGE", Path(__file__).with_name("page.mjs"))
    ran = subprocess.run(["node", script, server.url, server.tokens["all"], server.tokens["delete"], *sys.argv[2:3]])
sys.exit(ran.returncode)
