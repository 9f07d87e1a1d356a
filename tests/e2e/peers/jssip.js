// A browser's SIP (JsSIP) without a browser: registers by WebSocket, asks OPTIONS, sends a MESSAGE, and
// says what becomes of a call to it, all as lines of JSON on standard output. It ends when standard input does.
// JSSIP: a folder with node_modules; URL, USER, PASSWORD, REALM: whom to be; ORIGIN: where the page is from.

const { createRequire } = require('module');
global.window = globalThis; // where it looks for WebRTC, which Node lacks: it declines calls with 488
const load = createRequire(process.env.JSSIP + '/');
const WebSocket = load('ws');
global.WebSocket = class extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols, { origin: process.env.ORIGIN });
  }
};
const JsSIP = load('jssip');
const say = (event, fields) => console.log(JSON.stringify({ event, ...fields }));

const ua = new JsSIP.UA({
  sockets: [new JsSIP.WebSocketInterface(process.env.URL)],
  uri: `sip:${process.env.USER}@${process.env.REALM}`,
  authorization_user: process.env.USER,
  password: process.env.PASSWORD,
  registrar_server: `sip:${process.env.REALM}`,
  register_expires: 60,
});
ua.on('connected', () => say('connected', {}));
ua.on('disconnected', (e) => say('disconnected', { code: e.code, reason: String(e.reason || '') }));
ua.on('registrationFailed', (e) => say('failed', { cause: e.cause }));
ua.on('unregistered', () => say('unregistered', {}));
ua.on('registered', () => {
  say('registered', {});
  const to = `sip:x@${process.env.REALM}`;
  const done = (what) => ({
    eventHandlers: {
      succeeded: (e) => say(what, { status: e.response.status_code }),
      failed: (e) => say(what, { status: e.response ? e.response.status_code : 0, cause: e.cause }),
    },
  });
  ua.sendOptions(to, '', done('options'));
  ua.sendMessage(to, 'über WebSocket', done('message'));
});
ua.on('newRTCSession', (e) => say('call', { from: e.originator }));
ua.start();
process.stdin.on('end', () => {
  ua.stop();
  setTimeout(() => process.exit(0), 500);
});
process.stdin.resume();
