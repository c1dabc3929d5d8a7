#!/usr/bin/python3
"""A davit module in Python with paho-mqtt 1.6: it connects, takes an offer, fetches the image in
chunks, verifies it, hands it to the host MCU and reports. It may be killed at any moment and goes
on where it was. The host MCU is install(), and here a file; yours goes in its place.
docs/module-author.md explains it, docs/protocol.md has every field.

    module.py HOST PORT DEVICE PASSWORD_FILE FOLDER
"""
import hashlib, json, os, sys, time
from pathlib import Path
import paho.mqtt.client as mqtt

CHUNK, WINDOW = 4096, 32  # bytes of a chunk, chunks that are asked for at once
FINAL = ("succeeded", "failed", "rejected", "timed_out", "canceled")


class Module(mqtt.Client):
    def __init__(self, host, port, device, password_file, folder):
        super().__init__(client_id=device)
        self.username_pw_set(device, Path(password_file).read_text().strip())
        os.chdir(folder)
        self.topic = f"davit/v1/{device}/"
        self.will_set(self.topic + "presence", '{"v":1,"online":false}', 1, True)
        self.state = {"running": "1.0.0", "offer": {}, "ended": False, "seq": 0, "report": None}
        self.state.update(json.loads(Path("state").read_text()) if os.path.exists("state") else {})
        # the image, as far as it is here, and the folder, which says what its files are called
        self.slot, self.dir = os.open("slot", os.O_RDWR | os.O_CREAT), os.open(".", os.O_RDONLY)
        self.missing = {}  # offset and length of the chunks that are awaited
        self.connect_async(host, int(port), keepalive=30)

    def say(self, kind, payload, qos=1, retain=False):
        self.publish(self.topic + kind, json.dumps({"v": 1, **payload}), qos, retain)

    def attempt(self, message):  # the update that an offer or an ack is about
        return {k: message[k] for k in ("execution", "attempt") if k in message}

    def report(self, state, done=0, **more):
        s = self.state
        more.update(self.attempt(s["offer"]), seq=s["seq"] + 1, state=state, bytes_done=done)
        s.update(seq=s["seq"] + 1, ended=state in FINAL, report=more)
        os.fsync(self.slot)  # what the new state says is here
        with open("new", "w") as f:
            print(json.dumps(s), file=f, flush=True)
            os.fsync(f)
        os.rename("new", "state")  # after a power cut there is the old state or the new one,
        os.fsync(self.dir)  # and from here on the new one
        self.say("status", more)  # behind it, so that no number is used twice

    def offer(self, offer):  # comes again after each connection; an empty one withdraws it
        if offer and self.attempt(offer) != self.attempt(self.state["offer"]):
            self.missing, self.state["offer"], self.state["done"] = {}, offer, 0
            if offer.get("action") == "download":
                return self.report("rejected", cause="rejected", detail="It would be installed.")
            self.report("accepted")
        if not self.state["ended"] and not offer:
            self.missing, self.state["offer"], self.state["report"] = {}, {}, None
        elif not self.state["ended"] and not self.missing:
            self.window()

    def window(self):  # the next chunks, or the end
        done, size = self.state["done"], self.state["offer"]["size"]
        self.missing = {at: min(CHUNK, size - at) for at in range(done, size, CHUNK)[:WINDOW]}
        self.fetch() if self.missing else self.whole()

    def fetch(self):  # what has not come yet
        ranges = [{"offset": at, "length": n} for at, n in self.missing.items()]
        image = self.state["offer"]["image"]
        self.say("fetch", {"image": image, "tag": 1, "chunk": CHUNK, "ranges": ranges}, qos=0)

    def chunk(self, p):
        at, sha = int.from_bytes(p[8:16], "big"), self.state["offer"].get("sha256", "")
        if p[0] != 1 or p[1] > 1 or p[4:8].hex() != sha[:8] or self.missing.get(at) != len(p) - 16:
            return  # of another version or image, not as it was asked for, or here already
        os.pwrite(self.slot, p[16:], at)
        self.state["done"] += self.missing.pop(at)  # on disk once all bytes before it are here
        if not self.missing:
            self.report("downloading", self.state["done"])
            self.window()

    def whole(self):  # no byte goes to the MCU unless the SHA-256 agrees
        offer = self.state["offer"]
        image = Path("slot").read_bytes()[: offer["size"]]  # it may have been a longer one
        if hashlib.sha256(image).hexdigest() != offer["sha256"]:
            return self.report("failed", cause="checksum", detail="The SHA-256 does not agree.")
        self.report("downloaded", offer["size"])
        self.report("installing")
        self.state["running"] = self.install(image, offer["version"])
        self.report("booting", offer["size"])
        self.report("succeeded", offer["size"], host_version=self.state["running"])

    def install(self, image, version):  # the host MCU: it boots the image and says what runs
        Path("running").write_bytes(image)
        return version

    def ack(self, ack):
        if self.attempt(ack) == self.attempt(self.state["offer"]):
            if ack["seq"] >= self.state["seq"]:
                self.state["report"] = None
            if ack.get("superseded") or ack["state"] in FINAL:
                self.offer({})

    def on_connect(self, client, user, flags, refused):
        print(mqtt.connack_string(refused), file=sys.stderr)
        self.subscribe([(self.topic + kind, 1) for kind in ("offer", "chunk", "ack")])
        self.say("presence", {"online": True}, retain=True)
        self.heard, self.wait = 0, 2  # has loop_misc say hello, and what has no answer, now

    def on_message(self, client, user, m):
        self.heard, self.wait = time.monotonic(), 2  # the last message; seconds of silence
        kind = m.topic.split("/")[-1]  # offer, chunk or ack: nothing else is subscribed to
        getattr(self, kind)(m.payload if kind == "chunk" else json.loads(m.payload or "{}"))

    def loop_misc(self):  # paho calls it every second
        if self.is_connected() and time.monotonic() > self.heard + self.wait:
            hello = {} if self.state["ended"] else self.attempt(self.state["offer"])
            hello["host_versions"] = {"oem_host_version": self.state["running"]}
            self.say("hello", {"module": "module-python 1.0", "dialect": "ayla", **hello})
            if self.state["report"]:
                self.say("status", self.state["report"])
            if self.missing:
                self.fetch()
            limit = 30 if self.missing else 60 if self.state["report"] else 600
            self.heard, self.wait = time.monotonic(), min(2 * self.wait, limit)
        return super().loop_misc()


Module(*sys.argv[1:]).loop_forever(retry_first_connection=True)  # connects again and again
