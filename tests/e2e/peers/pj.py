"""A SIP phone (pjsua2) that a test drives by lines of JSON on standard input.

Each command is one JSON object a line; every answer and every event is one JSON object a line on
standard output. A call sends one tone and listens for another, so that the test can assert audio
both ways. Started by the end-to-end suite; never decides anything but what its orders say.
"""

import array
import json
import math
import sys
import threading
import time

import pjsua2 as pj

OUT = threading.Lock()


def say(event, **fields):
    with OUT:
        sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
        sys.stdout.flush()


class Ear(pj.AudioMediaPort):
    """Measures how long each of some tones has been heard, by Goertzel over frames of 20 ms."""

    def __init__(self, call, tones):
        super().__init__()
        self.call, self.tones, self.heard, self.any_ms = call, tones, {t: 0 for t in tones}, 0
        self.said = set()

    def onFrameReceived(self, frame):
        if frame.type != pj.PJMEDIA_FRAME_TYPE_AUDIO or frame.size == 0:
            return
        if not hasattr(self, "any_ms"):  # a last frame while the call is being taken apart
            return
        samples = array.array("h", bytes(bytearray(frame.buf)))
        n = len(samples)
        energy = sum(s * s for s in samples) / max(n, 1)
        if energy < 2500:
            return
        self.any_ms += 20
        for tone in self.tones:
            coefficient = 2 * math.cos(2 * math.pi * tone / 8000)
            a = b = 0.0
            for s in samples:
                a, b = s + coefficient * a - b, a
            power = (a * a + b * b - coefficient * a * b) / (n * n / 4)
            if power > energy:  # a pure tone has power 2 * energy by this measure
                self.heard[tone] += 20
                if self.heard[tone] >= 200 and tone not in self.said:
                    self.said.add(tone)
                    say("tone", call=self.call, hz=tone)


class Call(pj.Call):
    def __init__(self, phone, account, call_id=pj.PJSUA_INVALID_ID, name="", tone=0, listen=()):
        super().__init__(account, call_id)
        self.phone, self.name, self.tone, self.listen = phone, name, tone, list(listen)
        self.player = self.ear = None
        self.connected = False

    def onCallState(self, prm):
        info = self.getInfo()
        if info.state == pj.PJSIP_INV_STATE_CONFIRMED:
            self.connected = True
            say("confirmed", call=self.name)
        elif info.state == pj.PJSIP_INV_STATE_EARLY:
            say("early", call=self.name, status=info.lastStatusCode)
        elif info.state == pj.PJSIP_INV_STATE_DISCONNECTED:
            heard = dict(self.ear.heard) if self.ear else {}
            say("ended", call=self.name, status=info.lastStatusCode, reason=info.lastReason,
                call_id=info.callIdString, heard={str(k): v for k, v in heard.items()},
                any_ms=self.ear.any_ms if self.ear else 0, connected=self.connected)
            self.phone.calls.pop(self.name, None)
            self.phone.dead.append(self)

    def onCallMediaState(self, prm):
        try:
            self.connect_media()
        except Exception as error:  # the library would swallow it
            say("error", text=repr(error), order="media of " + self.name)

    def connect_media(self):
        info = self.getInfo()  # kept: the list below lives in it
        for index, media in enumerate(info.media):
            if media.type == pj.PJMEDIA_TYPE_AUDIO and media.status in (
                    pj.PJSUA_CALL_MEDIA_ACTIVE, pj.PJSUA_CALL_MEDIA_REMOTE_HOLD):
                audio = self.getAudioMedia(index)
                if self.ear is None:
                    self.ear = Ear(self.name, self.listen)
                    fmt = pj.MediaFormatAudio()
                    fmt.init(pj.PJMEDIA_FORMAT_PCM, 8000, 1, 20000, 16)
                    self.ear.createPort("ear-" + self.name, fmt)
                audio.startTransmit(self.ear)
                if self.tone:
                    if self.player is None:
                        self.player = pj.ToneGenerator()
                        self.player.createToneGenerator(8000, 1)
                        tone = pj.ToneDesc()
                        tone.freq1, tone.freq2, tone.on_msec, tone.off_msec = self.tone, 0, 1000, 0
                        tones = pj.ToneDescVector()
                        tones.append(tone)
                        self.player.play(tones, True)
                    self.player.startTransmit(audio)

    def onCallRedirected(self, prm):
        say("redirected", call=self.name, to=prm.targetUri)
        return pj.PJSIP_REDIRECT_ACCEPT

    def onDtmfDigit(self, prm):
        say("digit", call=self.name, digit=prm.digit)

    def onCallTransferStatus(self, prm):
        say("transfer", call=self.name, status=prm.statusCode, final=prm.finalNotify)

    def onCallReplaced(self, prm):
        # The call that takes this one's place plays and listens for what this one did.
        call = Call(self.phone, self.phone.accounts[self.name.rsplit("-", 1)[0]], prm.newCallId, self.name + "-new",
                    self.tone, self.listen)
        self.phone.calls[call.name] = call
        say("replaced", call=self.name, by=call.name)


class Account(pj.Account):
    def __init__(self, phone, name, answer):
        super().__init__()
        self.phone, self.name, self.answer = phone, name, answer
        self.count = 0

    def onRegState(self, prm):
        say("registered", account=self.name, status=prm.code)

    def onIncomingCall(self, prm):
        self.count += 1
        name = "%s-%d" % (self.name, self.count)
        call = Call(self.phone, self, prm.callId, name, self.answer.get("tone", 0), self.answer.get("listen", ()))
        self.phone.calls[name] = call
        say("incoming", account=self.name, call=name, uri=call.getInfo().remoteUri)
        self.phone.later.append((0.0, lambda: call.name in self.phone.calls and self.ring(call)))

    def ring(self, call):
        answer = self.answer
        if answer.get("ring", True):
            self.phone.reply(call, 180)
        if "status" in answer:
            after = time.monotonic() + answer.get("after_ms", 0) / 1000
            self.phone.later.append((after, lambda: call.name in self.phone.calls and self.phone.reply(call, answer["status"])))


class Host(pj.Endpoint):
    def onNatCheckStunServersComplete(self, prm):
        say("stun", status=prm.status, address=prm.addr)


class Buddy(pj.Buddy):
    """Somebody whose presence an account watches (RFC 3856)."""

    def __init__(self, uri):
        super().__init__()
        self.uri = uri

    def onBuddyState(self):
        info = self.getInfo()
        if info.subState == pj.PJSIP_EVSUB_STATE_ACTIVE:
            busy, away = (info.presStatus.activity == a for a in (pj.PJRPID_ACTIVITY_BUSY, pj.PJRPID_ACTIVITY_AWAY))
            online = info.presStatus.status == pj.PJSUA_BUDDY_STATUS_ONLINE
            say("presence", uri=self.uri, online=online, busy=busy, away=away, note=info.presStatus.note)
        else:
            say("subscription", uri=self.uri, state=info.subStateName, reason=info.subTermReason)


class Phone:
    def __init__(self):
        self.buddies = []
        self.calls, self.accounts, self.later, self.dead, self.orders = {}, {}, [], [], []
        self.ep = Host()
        self.ep.libCreate()
        config = pj.EpConfig()
        config.logConfig.level = config.logConfig.consoleLevel = int(sys.argv[1]) if len(sys.argv) > 1 else 0
        config.uaConfig.threadCnt = 0
        config.uaConfig.maxCalls = 30
        config.medConfig.clockRate = config.medConfig.sndClockRate = 8000
        config.medConfig.noVad = True
        config.medConfig.ecTailLen = 0
        self.ep.libInit(config)
        self.ep.audDevManager().setNullDev()

    def reply(self, call, status):
        prm = pj.CallOpParam()
        prm.statusCode = status
        call.answer(prm)

    def order(self, o):
        do = o["do"]
        if do == "start":
            transport = pj.TransportConfig()
            kind = o.get("transport", "udp")  # or tcp, tls
            transport.port = o.get("port", 0)
            self.public = o.get("public", "127.0.0.1")  # named in Via, Contact and SDP
            transport.boundAddress, transport.publicAddress = "127.0.0.1", self.public
            if kind == "tls":
                tls = transport.tlsConfig
                tls.CaListFile, tls.certFile, tls.privKeyFile = o.get("ca", ""), o.get("cert", ""), o.get("key", "")
                tls.verifyServer = True
            self.transport = self.ep.transportCreate(getattr(pj, "PJSIP_TRANSPORT_" + kind.upper()), transport)
            self.ep.libStart()
            for codec in self.ep.codecEnum2():
                keep = {"PCMU/8000/1": 200, "PCMA/8000/1": 199}
                if o.get("codec"):
                    keep = {o["codec"] + "/8000/1": 200}
                self.ep.codecSetPriority(codec.codecId, keep.get(codec.codecId, 0))
        elif do == "account":
            config = pj.AccountConfig()
            config.idUri = o["id"]
            config.mediaConfig.transportConfig.boundAddress = "127.0.0.1"
            config.mediaConfig.transportConfig.publicAddress = self.public
            if o.get("own_contact"):  # its own listening address, not where its connection comes from
                config.natConfig.contactRewriteUse = config.natConfig.contactUseSrcPort = 0
                config.natConfig.sipOutboundUse = 0
            if o.get("contact"):  # whatever it says
                config.sipConfig.contactForced = o["contact"]
                config.natConfig.contactRewriteUse = config.natConfig.contactUseSrcPort = 0
            config.mediaConfig.transportConfig.port = o.get("rtp_port", 0)
            config.callConfig.timerUse = o.get("timer", 0)
            config.callConfig.timerSessExpiresSec = o.get("session_s", 1800)
            config.callConfig.prackUse = o.get("prack", 0)
            if o.get("registrar"):
                config.regConfig.registrarUri = o["registrar"]
                config.regConfig.timeoutSec = o.get("expires", 300)
                config.sipConfig.authCreds.append(
                    pj.AuthCredInfo("digest", "*", o["user"], 0, o["password"]))
            if o.get("proxy"):
                config.sipConfig.proxies.append(o["proxy"])
            account = Account(self, o["name"], o.get("answer", {}))
            account.create(config)
            self.accounts[o["name"]] = account
        elif do == "stun":  # what a server says of our address
            servers = pj.StringVector()
            servers.append(o["server"])
            self.ep.natCheckStunServers(servers, False, None)
        elif do == "answering":
            self.accounts[o["account"]].answer = o["answer"]
        elif do == "call":
            call = Call(self, self.accounts[o["account"]], name=o["call"], tone=o.get("tone", 0), listen=o.get("listen", ()))
            self.calls[o["call"]] = call
            prm = pj.CallOpParam(True)
            prm.opt.audioCount, prm.opt.videoCount = 1, 0
            call.makeCall(o["uri"], prm)
        elif do == "reply":
            self.reply(self.calls[o["call"]], o["status"])
        elif do == "dtmf":
            self.calls[o["call"]].dialDtmf(o["digits"])
        elif do == "hangup":
            if o["call"] in self.calls:
                self.calls[o["call"]].hangup(pj.CallOpParam(True))
        elif do == "hold":
            self.calls[o["call"]].setHold(pj.CallOpParam(True))
        elif do == "resume":
            prm = pj.CallOpParam(True)
            prm.opt.flag = pj.PJSUA_CALL_UNHOLD
            self.calls[o["call"]].reinvite(prm)
        elif do == "where":
            say("where", address=self.ep.transportGetInfo(self.transport).localName)
        elif do == "transfer":
            self.calls[o["call"]].xfer(o["to"], pj.CallOpParam(True))
        elif do == "transfer-to":
            self.calls[o["call"]].xferReplaces(self.calls[o["other"]], pj.CallOpParam(True))
        elif do == "watch":
            config = pj.BuddyConfig()
            config.uri, config.subscribe = o["uri"], True
            buddy = Buddy(o["uri"])
            buddy.create(self.accounts[o["account"]], config)
            self.buddies.append(buddy)
        elif do == "unwatch":
            for buddy in self.buddies:
                buddy.subscribePresence(False)
        elif do == "heard":
            call = self.calls.get(o["call"])
            ear = call.ear if call else None
            say("heard", call=o["call"], any_ms=ear.any_ms if ear else 0,
                heard={str(k): v for k, v in ear.heard.items()} if ear else {})
        elif do == "forget":
            ear = self.calls[o["call"]].ear
            ear.heard, ear.any_ms, ear.said = {t: 0 for t in ear.tones}, 0, set()
        else:
            raise ValueError("unknown order " + do)
        say("done", do=do)

    def run(self):
        def read():
            for line in sys.stdin:
                self.orders.append(line)
            self.orders.append(None)

        threading.Thread(target=read, daemon=True).start()
        while True:
            self.ep.libHandleEvents(5)
            self.dead.clear()
            now = time.monotonic()
            due = [item for item in self.later if item[0] <= now]
            self.later = [item for item in self.later if item[0] > now]
            for _, action in due:
                action()
            while self.orders:
                line = self.orders.pop(0)
                if line is None:
                    return
                try:
                    self.order(json.loads(line))
                except Exception as error:  # the test hears of it and fails there
                    say("error", text=str(error), order=line.strip())


phone = Phone()
say("ready")
phone.run()
sys.stdout.flush()
# The library's shutdown waits for peers that a test may have killed: leave without it.
import os
os._exit(0)
