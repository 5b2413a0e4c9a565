// Runs a program of JavaScript as `node main.js` would, but for its tests, which it cannot see.
//
// Candidate and tests share a file and must parse as one module; then they run as two texts: the
// candidate as a script, whose names the tests see, and the tests as a strict function, whose text
// no function can ask for (`arguments.callee`, `f.caller`). What the tests compare with is put away
// before the candidate runs, so that replacing it changes nothing. Where the tests return, and only
// there, the token is sent; callbacks that wait, what they print, and the status of the process are
// seen from outside.
'use strict';

const fs = require('fs');
const path = require('path');
const vm = require('vm');

const Module = module.constructor;
const CHANNEL = 3;
const TOKEN = 16;
const ERRORS = 2;
// A debugger, a dump of the heap or the engine's own functions would show the tests.
const CLOSED = /^(?:node:)?(?:inspector|inspector\/promises|v8|worker_threads)$/;
const CLOSED_OF_PROCESS = [
  'binding', '_linkedBinding', '_debugProcess', '_tickCallback', 'dlopen', 'getBuiltinModule',
];
const { readSync, writeSync, closeSync } = fs;
const { apply } = Reflect;
const matches = RegExp.prototype.exec;

function ask() {
  const answer = Buffer.alloc(TOKEN + 5);
  for (let n = 0; n < TOKEN + 1; ) {
    const part = readSync(CHANNEL, answer, n, TOKEN + 1 - n, null);
    if (part === 0) process.reallyExit(3);
    n += part;
  }
  return answer.fill(0, TOKEN);
}

// The file's last line repeats the line between candidate and tests.
function load(file) {
  const text = fs.readFileSync(file, 'utf8');
  fs.unlinkSync(file);
  const mark = /\n\/\/[a-z]+\n$/.exec(text)[0];
  const at = text.indexOf(mark);
  return [text, text.slice(0, at + 1), text.slice(at + 1)];
}

function surround(file) {
  const main = new Module(file, null);
  main.id = '.';
  main.filename = file;
  main.paths = Module._nodeModulePaths(path.dirname(file));
  Module._cache = Object.create(null);
  Module._cache[file] = main;
  process.argv[1] = file;
  process.mainModule = main;
  const require = Module.createRequire(file);
  require.main = main;
  main.require = require;
  const around = {
    exports: main.exports, require, module: main, __filename: file, __dirname: path.dirname(file),
  };
  for (const [name, value] of Object.entries(around)) {
    Object.defineProperty(globalThis, name, { value, writable: true });
  }
  return Object.keys(around);
}

function close() {
  const load = Module._load;
  Module._load = function (name, ...rest) {
    const plain = `${name}`;
    if (apply(matches, CLOSED, [plain])) {
      throw new Error(`module '${plain}' is not available here`);
    }
    return apply(load, this, [plain, ...rest]);
  };
  for (const name of CLOSED_OF_PROCESS) {
    process[name] = () => {
      throw new Error(`process.${name} is not available here`);
    };
  }
  Module.register = undefined;
}

// What tests call, under its names.
function pristine() {
  const copy = (from) => Object.create(null, Object.getOwnPropertyDescriptors(from));
  const mine = copy(console);
  Object.defineProperty(mine, 'assert', {
    value: (holds) => {
      if (!holds) writeSync(ERRORS, 'Assertion failed\n');
    },
  });
  return { console: mine, JSON: copy(JSON), Math: copy(Math) };
}

function run() {
  const file = path.resolve('main.js');
  const token = ask();
  const [whole, candidate, tests] = load(file);
  vm.compileFunction(whole, surround(file), { filename: file });
  const given = pristine();
  const importModuleDynamically = vm.constants?.USE_MAIN_CONTEXT_DEFAULT_LOADER;
  const first = new vm.Script(candidate, { filename: file, importModuleDynamically });
  const last = vm.compileFunction(`'use strict';${tests}`, Object.keys(given), { filename: file });
  const values = Object.values(given);
  close();
  first.runInThisContext();
  process.mainModule.loaded = true;
  apply(last, undefined, values);
  writeSync(CHANNEL, token);
  closeSync(CHANNEL);
}

delete require.cache[__filename];
run();
