// What programs use of the npm package js-md5, by Node's own MD5.
'use strict';

const { createHash, createHmac } = require('crypto');

function bytes(message) {
  if (typeof message === 'string') return Buffer.from(message, 'utf8');
  if (Array.isArray(message)) return Buffer.from(message);
  if (message instanceof ArrayBuffer) return Buffer.from(message);
  if (ArrayBuffer.isView(message)) {
    return Buffer.from(message.buffer, message.byteOffset, message.byteLength);
  }
  throw new Error('input is invalid type');
}

function outputs(digest) {
  const hex = () => digest().toString('hex');
  const array = () => [...digest()];
  const arrayBuffer = () => new Uint8Array(digest()).buffer;
  const base64 = () => digest().toString('base64');
  return { hex, toString: hex, digest: array, array, arrayBuffer, buffer: arrayBuffer, base64 };
}

function hash(start) {
  const whole = start();
  const self = outputs(() => whole.copy().digest());
  self.update = (message) => {
    whole.update(bytes(message));
    return self;
  };
  return self;
}

function hmac(key) {
  const parts = [];
  const finish = () => parts.reduce((h, p) => h.update(p), createHmac('md5', bytes(key))).digest();
  const self = outputs(finish);
  self.update = (message) => {
    parts.push(bytes(message));
    return self;
  };
  return self;
}

function method(create) {
  const call = (...values) => create(...values.slice(0, -1)).update(values.at(-1));
  const made = (...values) => call(...values).hex();
  made.create = create;
  made.update = call;
  for (const name of ['hex', 'digest', 'array', 'arrayBuffer', 'buffer', 'base64']) {
    made[name] = (...values) => call(...values)[name]();
  }
  return made;
}

const md5 = method(() => hash(() => createHash('md5')));
md5.hmac = method(hmac);
md5.md5 = md5;
module.exports = md5;
