"""post_requests.py URL COUNT: telemetry through requests, on a session."""
import sys

import requests

session = requests.Session()
for i in range(int(sys.argv[2])):
    answer = session.post(sys.argv[1], json={"temperature": 21.5, "humidity": 10 + i % 90, "battery": 3.123})
    assert answer.status_code == 200
