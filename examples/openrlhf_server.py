"""A GRAM judge behind OpenRLHF's /get_reward: --reward.remote_url http://localhost:5000/get_reward

GRAM_MODEL names the judge, HOST and PORT where to listen. Runs in an environment of its own, so that
OpenRLHF and the judge need not agree on the version of anything. The label of each row (--data.label_key) is
the reference answer that the policy has to beat.
"""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import gram
from gram.rl import ReferenceReward, Shaping
from gram.rl.openrlhf import OpenRlhfReward

judge = gram.load(os.environ["GRAM_MODEL"])
reward = OpenRlhfReward(ReferenceReward(judge, shaping=Shaping(clip=(-5.0, 5.0))))


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        try:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = 200, reward.get_reward(request)
        except (ValueError, gram.GramError) as error:
            status, answer = 400, {"error": str(error)}
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    address = os.environ.get("HOST", "localhost"), int(os.environ.get("PORT", "5000"))
    ThreadingHTTPServer(address, Handler).serve_forever()
