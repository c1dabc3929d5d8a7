#!/usr/bin/python3
"""A davit module in Python with paho-mqtt 1.6: it connects, takes an offer, fetches the image in chunks, verifies it, hands
it to the host MCU and reports. It may be killed at any moment and goes on where it was. The host MCU is install(), and
here a file; yours goes in its place. docs/module-author.md explains it, docs/protocol.md has every field.

    module.py HOST PORT DEVICE PASSWORD_FILE FOLDER
"""
import hashlib, json, math, os, random, signal, sys, time
import paho.mqtt.client as mqtt

CHUNK, WINDOW = 4096, 32  # bytes of a chunk, chunks that are asked for at once


class Module:
    def __init__(self, device, folder):
        self.device = device
        os.chdir(folder)
        self.state = {"running": "1.0.0", "offer": None, "seq": 0, "final": False, "unacked": None}
        if os.path.exists("state"):
            with open("state") as f:
                self.state = json.load(f)
        self.missing, self.awaited, self.tag = None, set(), 0  # missing: chunks, None while nothing is being fetched
        self.told, self.pause = 0, 1  # when the last progress was told; seconds before the next attempt to connect
        self.due = {}  # what is to be repeated: name -> (when, pause)

    def save(self):  # after a power cut there is the old state or the new one
        with open("new", "w") as f:
            json.dump(self.state, f)
            f.flush()
            os.fsync(f.fileno())
        os.rename("new", "state")

    def say(self, kind, payload, qos=1, retain=False):
        self.mqtt.publish(f"davit/v1/{self.device}/{kind}", json.dumps({"v": 1, **payload}), qos, retain)

    def again(self, name, pause):
        self.due[name] = (time.monotonic() + pause, pause)

    def hello(self):
        hello = {"module": "module-python 1.0", "dialect": "ayla", "host_versions": {"oem_host_version": self.state["running"]}}
        if self.state["offer"] and not self.state["final"]:
            hello.update({k: self.state["offer"][k] for k in ("execution", "attempt")})
        self.say("hello", hello)
        self.again("hello", 600)

    def report(self, state, done=0, **more):  # on disk before it is sent, so that no number is used twice
        offer = self.state["offer"]
        self.state["seq"] += 1
        self.state["final"] = state in ("succeeded", "failed", "rejected")
        self.state["unacked"] = {"execution": offer["execution"], "attempt": offer["attempt"], "seq": self.state["seq"],
                                 "state": state, "bytes_done": done, **more}
        self.save()
        self.repeat(2)

    def repeat(self, pause):  # until the ack comes
        self.say("status", self.state["unacked"])
        self.again("status", pause)

    def install(self, version):  # the host MCU: it takes the verified image, boots it, and says what runs
        os.rename("slot", "running")
        self.state["running"] = version

    def succeeded(self):
        self.report("succeeded", self.state["offer"]["size"], host_version=self.state["running"])
        self.hello()

    def drop(self, final=False):  # the update is over for us
        self.missing, self.state["unacked"], self.state["final"] = None, None, final
        self.state["offer"] = self.state["offer"] if final else None
        self.save()

    def offer(self, offer):
        known, self.missing = self.state["offer"], self.missing
        if known and all(known[k] == offer[k] for k in ("execution", "attempt")):
            if self.state["final"] or self.missing is not None:
                return  # nothing new
        else:
            if not known or known["sha256"] != offer["sha256"]:
                for name in ("slot", "have"):
                    if os.path.exists(name):
                        os.remove(name)
            self.state.update(offer=offer, seq=0)
            if offer.get("action") == "download":
                return self.report("rejected", cause="rejected", detail="This module installs at once what it fetches.")
            self.report("accepted")
            known = None
        if known and self.state["running"] == offer["version"]:  # killed between the boot and its report
            return self.succeeded()
        for name in ("slot", "have"):  # the image, and a byte for each chunk of it that is there
            open(name, "ab").close()
        with open("have", "rb") as f:
            have = f.read()
        count = -(-offer["size"] // CHUNK)
        self.missing = {i for i in range(count) if have[i:i + 1] != b"\1"}
        self.fetch(2) if self.missing else self.whole()

    def fetch(self, pause):  # the first chunks that are missing: holes as well as what comes next
        offer, self.tag, wanted = self.state["offer"], (self.tag + 1) & 0xFFFF, sorted(self.missing)[:WINDOW]
        self.awaited = set(wanted)
        ranges = [{"offset": i * CHUNK, "length": min(CHUNK, offer["size"] - i * CHUNK)} for i in wanted]
        self.say("fetch", {"image": offer["image"], "tag": self.tag, "chunk": CHUNK, "ranges": ranges}, qos=0)
        self.again("fetch", pause)

    def chunk(self, p):
        offer, offset, data = self.state["offer"], int.from_bytes(p[8:16], "big"), p[16:]
        i = offset // CHUNK
        if self.missing is None or p[0] != 1 or p[1] & ~1 or p[4:8].hex() != offer["sha256"][:8] or i not in self.missing \
                or offset % CHUNK or len(data) != min(CHUNK, offer["size"] - offset):
            return  # of another image or version, not as it was asked for, or here already
        for name, at, what in (("slot", offset, data), ("have", i, b"\1")):
            with open(name, "r+b") as f:
                f.seek(at)
                f.write(what)
        self.missing.discard(i)
        self.awaited.discard(i)
        if not self.missing:
            self.whole()
        elif not self.awaited:
            if time.monotonic() > self.told + 1:  # not more often
                self.told = time.monotonic()
                self.report("downloading", max(0, offer["size"] - len(self.missing) * CHUNK))
            self.fetch(2)
        else:
            self.again("fetch", 2)

    def whole(self):  # no byte goes to the MCU unless the SHA-256 agrees
        offer, self.missing = self.state["offer"], None
        with open("slot", "rb") as f:
            agrees = hashlib.sha256(f.read(offer["size"])).hexdigest() == offer["sha256"]
        os.remove("have")
        if not agrees:
            return self.report("failed", cause="checksum", detail="The SHA-256 of what was fetched is not the offer's.")
        self.report("downloaded", offer["size"])
        self.report("installing")
        self.install(offer["version"])
        self.report("booting", offer["size"])
        self.succeeded()

    def acknowledged(self, ack):
        offer = self.state["offer"]
        if not offer or any(ack[k] != offer[k] for k in ("execution", "attempt")):
            return
        if ack["seq"] >= self.state["seq"]:
            self.state["unacked"] = None
            self.save()
        if ack.get("superseded"):
            self.drop(final=True)

    def connected(self, client, user, flags, refused):
        if refused:
            return print("refused:", mqtt.connack_string(refused), file=sys.stderr)
        self.pause = 1
        client.subscribe([(f"davit/v1/{self.device}/{kind}", 1) for kind in ("offer", "chunk", "ack")])
        self.say("presence", {"online": True}, retain=True)
        self.hello()
        if self.state["unacked"]:
            self.repeat(2)

    def message(self, client, user, m):
        kind = m.topic.rsplit("/", 1)[1]
        try:
            if kind == "chunk":
                self.chunk(m.payload)
            elif kind == "ack":
                self.acknowledged(json.loads(m.payload))
            elif m.payload:
                self.offer(json.loads(m.payload))
            elif not self.state["final"]:
                self.drop()  # withdrawn
        except (ValueError, KeyError, IndexError) as e:
            print(f"{kind} is none of the contract: {e!r}", file=sys.stderr)
        except OSError as e:
            self.missing = None
            self.report("failed", cause="storage", detail=f"The image cannot be stored: {e.strerror}.")

    def remind(self):  # what is due
        for name, wanted, limit, do in (("status", self.state["unacked"], 60, self.repeat), ("fetch", self.missing, 30, self.fetch),
                                        ("hello", True, 600, lambda _: self.hello())):
            when, pause = self.due.get(name, (math.inf, 1))
            if wanted and time.monotonic() >= when:
                do(min(2 * pause, limit))

    def run(self, host, port, password):
        self.mqtt = client = mqtt.Client(client_id=self.device)
        client.username_pw_set(self.device, password)
        client.will_set(f"davit/v1/{self.device}/presence", '{"v":1,"online":false}', 1, True)
        client.on_connect, client.on_message = self.connected, self.message
        stop = []
        for s in (signal.SIGINT, signal.SIGTERM):
            signal.signal(s, lambda *_: stop.append(1))
        online = False
        while not stop:
            try:
                done = client.loop(0.2) if online else client.connect(host, port, keepalive=30)
                online = done == mqtt.MQTT_ERR_SUCCESS
            except OSError as e:
                print(e, file=sys.stderr)
                online = False
            if online:
                self.remind()
            elif not stop:  # longer each time and by chance, so that a fleet does not come back all at once
                time.sleep(self.pause * random.uniform(1, 2))
                self.pause = min(2 * self.pause, 60)
        self.say("presence", {"online": False}, retain=True)  # an orderly end sends no will
        client.disconnect()
        client.loop(0.2)


if __name__ == "__main__":
    host, port, device, password_file, folder = sys.argv[1:]
    with open(password_file) as f:
        Module(device, folder).run(host, int(port), f.readline().strip())
