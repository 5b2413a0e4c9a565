"""A server of OpenAI's protocol with vLLM's extensions, as a process of its own; also a bad one.

    python app.py SPEC.json      prints `port N` once it listens on 127.0.0.1:N

The spec is `{"models": {name: {"folder": ..., "adapter": ...}}}` for tiny transformers models, or
`{"models": {name: {}}}` for a model of letters that needs no torch. Requests are answered by whole
forward passes, one token at a time, so nothing is shared with the engines under test.

    POST /control    {"bad": {"part of a prompt": ["500", "hang", ...]}, "per_event": 3, ...};
                     with "pause_at": 20 it stops after 20 tokens until the client has left
    GET  /seen       every request: its body, its headers, tokens sent, whether the client left
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import select
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Letters:
    """Token = character; what follows is a function of prompt and seed."""

    eos = 0

    def __init__(self, spec):
        self.names = dict(spec["models"])
        self.n_positions = spec.get("n_positions", 4096)

    def encode(self, text, special=True):
        return [ord(character) for character in text]

    def decode(self, ids):
        return "".join(map(chr, ids))

    def chat(self, messages, opens, goes_on):
        text = "".join(f"<{m['role']}>{m['content']}\n" for m in messages)
        return text[:-1] if goes_on else text + "<assistant>"

    def tokens(self, name, ids, embeds, body):
        key = f"{self.decode(ids)}|{body.get('seed')}|{body.get('temperature')}"
        noise = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        for character in f" = {noise[:12]}\n\nprint({noise[12:40]})\u2028# end\n":
            yield ord(character), -0.5, {ord(character): -0.5}
        yield self.eos, -0.1, {}

    def scores(self, name, ids):
        return [None] + [-0.25] * (len(ids) - 1)


class Tiny:
    """Tiny models of transformers, with LoRA or none."""

    def __init__(self, spec):
        import torch
        import transformers

        torch.set_num_threads(1)
        self.torch = torch
        self.names = dict(spec["models"])
        folder = next(iter(self.names.values()))["folder"]
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.eos = self.tokenizer.eos_token_id
        self.loaded = {}
        self.lock = threading.Lock()
        config = transformers.AutoConfig.from_pretrained(folder)
        self.n_positions = config.max_position_embeddings

    def model(self, name):
        if name not in self.loaded:
            import transformers

            told = self.names[name]
            model = transformers.AutoModelForCausalLM.from_pretrained(
                told["folder"], dtype=self.torch.float32
            )
            if told.get("adapter"):
                self.fold(model, Path(told["adapter"]))
            self.loaded[name] = model.eval()
        return self.loaded[name]

    def fold(self, model, folder):
        """Add LoRA to the weights by its formula: importing PEFT takes longer than the tests."""
        from safetensors.torch import load_file

        config = json.loads((folder / "adapter_config.json").read_text())
        scale = config["lora_alpha"] / config["r"] ** (0.5 if config["use_rslora"] else 1)
        weights = load_file(folder / "adapter_model.safetensors")
        names = [name for name in weights if ".lora_A." in name]
        assert 2 * len(names) == len(weights), "more than LoRA"
        for name in names:
            place = name.removeprefix("base_model.model.").partition(".lora_A.")[0]
            change = scale * weights[name.replace(".lora_A.", ".lora_B.")] @ weights[name]
            model.get_submodule(place).weight.data += change

    def encode(self, text, special=True):
        return self.tokenizer(text, add_special_tokens=special)["input_ids"]

    def decode(self, ids):
        return self.tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def chat(self, messages, opens, goes_on):
        return self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=opens, continue_final_message=goes_on
        )

    def logits(self, name, ids, embeds, new):
        torch = self.torch
        model = self.model(name)
        if embeds is None:
            return model(input_ids=torch.tensor([[*ids, *new]]), use_cache=False).logits[0]
        rows = [embeds]
        if new:
            rows.append(model.get_input_embeddings()(torch.tensor(new)))
        return model(inputs_embeds=torch.cat(rows)[None], use_cache=False).logits[0]

    def tokens(self, name, ids, embeds, body):
        torch = self.torch
        generator = torch.Generator().manual_seed(body.get("seed") or 0)
        allowed = body.get("allowed_token_ids")
        new = []
        while True:
            with self.lock, torch.inference_mode():
                logs = self.logits(name, ids, embeds, new)[-1].log_softmax(-1)
                choice = logs.clone()
                if allowed:
                    choice[:] = -torch.inf
                    choice[allowed] = logs[allowed]
                if not body.get("temperature"):
                    token = int(choice.argmax())
                else:
                    token = self.drawn(choice / body["temperature"], body, generator)
                top = logs.topk(max(int(body.get("logprobs") or 1), 1))
            new.append(token)
            others = dict(zip(top.indices.tolist(), top.values.tolist(), strict=True))
            yield token, float(logs[token]), others

    def drawn(self, logits, body, generator):
        falling, order = logits.softmax(-1).sort(descending=True)
        kept = falling.cumsum(-1) - falling < body.get("top_p", 1)
        at = self.torch.multinomial(falling * kept, 1, generator=generator)
        return int(order[at])

    def scores(self, name, ids):
        with self.lock, self.torch.inference_mode():
            logs = self.logits(name, ids, None, []).log_softmax(-1)
        return [None] + [float(logs[n, token]) for n, token in enumerate(ids[1:])]

    def read_embeds(self, text):
        import io

        return self.torch.load(io.BytesIO(base64.b64decode(text)), weights_only=True)


class State:
    """What the handlers share."""

    def __init__(self, backend):
        self.backend = backend
        self.bad = {}
        self.per_event = 1
        self.delay_s = 0.0
        self.pause_at = 0
        self.key = None
        self.strict = False
        self.lock = threading.Lock()
        self.seen = []

    def mode(self, text):
        """The next misbehaviour for a prompt; each is used once, the last for ever if it is `*`."""
        with self.lock:
            for part, modes in self.bad.items():
                if part in text and modes:
                    return modes[0][1:] if modes[0].startswith("*") else modes.pop(0)
        return ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: State

    def log_message(self, *_):
        pass

    def do_GET(self):
        state = self.state
        if self.path == "/health":
            self.answer(200, {})
        elif self.path == "/version":
            self.answer(200, {"version": "0.0.test"})
        elif self.path == "/seen":
            self.answer(200, state.seen)
        elif self.path == "/v1/models" and self.allowed():
            cards = [
                {"id": name, "object": "model"}
                | ({} if told.get("adapter") else {"max_model_len": state.backend.n_positions})
                for name, told in state.backend.names.items()
            ]
            self.answer(200, {"object": "list", "data": cards})
        elif self.path != "/v1/models":
            self.error(404, "Not Found")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        state = self.state
        if self.path == "/control":
            state.backend.names.update(body.pop("adding", {}))
            for name, value in body.items():
                setattr(state, name, value)
            if "seen" not in body:
                state.seen = []
            self.answer(200, {})
            return
        if not self.allowed():
            return
        if self.path == "/v1/load_lora_adapter" and not state.strict:
            folder = next(iter(state.backend.names.values())).get("folder")
            told = {"folder": folder, "adapter": body["lora_path"]}
            state.backend.names[body["lora_name"]] = told
            self.answer(200, {})
        elif self.path == "/v1/unload_lora_adapter":
            del state.backend.names[body["lora_name"]]
            self.answer(200, {})
        elif self.path in ("/v1/completions", "/v1/chat/completions"):
            self.complete(body, chat="chat" in self.path)
        else:
            self.error(404, "Not Found")

    def allowed(self):
        if self.state.key and self.headers.get("Authorization") != f"Bearer {self.state.key}":
            self.error(401, f"wrong key: {self.headers.get('Authorization')}")
            return False
        return True

    def complete(self, body, chat):
        state, backend = self.state, self.state.backend
        noted = {
            "path": self.path,
            "body": body,
            "headers": dict(self.headers),
            "n_sent": 0,
            "left": False,
        }
        state.seen.append(noted)
        embeds = None
        if chat:
            goes_on = bool(body.get("continue_final_message"))
            if goes_on and state.strict:
                self.error(400, "Unrecognized request argument supplied: continue_final_message")
                return
            opens = body.get("add_generation_prompt", True)
            ids = backend.encode(backend.chat(body["messages"], opens, goes_on), special=False)
        elif "prompt_embeds" in body:
            embeds = backend.read_embeds(body["prompt_embeds"])
            ids = [0] * len(embeds)
        else:
            prompt = body["prompt"]
            ids = prompt if isinstance(prompt, list) else backend.encode(prompt)
        mode = state.mode("" if embeds is not None else backend.decode(ids))
        if self.misbehaved(mode):
            return
        if body.get("model") not in backend.names:
            self.error(404, f"The model `{body.get('model')}` does not exist.", "model_not_found")
            return
        if len(ids) >= backend.n_positions:
            self.error(
                400,
                f"This model's maximum context length is {backend.n_positions} tokens. However, "
                f"your prompt contains {len(ids)} input tokens.",
            )
            return
        if state.strict and body.get("logprobs"):
            self.error(400, "logprobs are not supported")
            return
        self.reply(body, chat, ids, embeds, noted, mode)

    def misbehaved(self, mode):
        """Whether a misbehaviour took the place of an answer."""
        kind, _, detail = mode.partition(":")
        if kind == "die":
            os._exit(1)
        if kind == "drop":
            self.close_connection = True
            self.connection.close()
        elif kind == "hang":
            time.sleep(float(detail or 3600))
            self.close_connection = True
        elif kind == "garbage":
            self.answer(200, b'{"choices": [{"te')
        elif kind == "nothing":
            self.answer(200, {"choices": []})
        elif kind == "nonsense":
            self.answer(200, {"choices": [{"text": 7, "finish_reason": "stop"}]})
        elif kind.isdigit():
            headers = {"Retry-After": detail} if kind in ("429", "503") and detail else {}
            self.error(int(kind), detail or "as asked", headers=headers)
        else:
            return False
        return True

    def reply(self, body, chat, ids, embeds, noted, mode):
        backend = self.state.backend
        most = body.get("max_tokens", 16)
        room = backend.n_positions - len(ids)
        ends = {backend.eos, *body.get("stop_token_ids", [])}
        if body.get("stream"):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream; charset=utf-8")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
        new, logs, tops, reason = [], [], [], "length"
        shown = told = 0
        try:
            for token, value, others in backend.tokens(body["model"], ids, embeds, body):
                if not most:
                    break
                new.append(token)
                logs.append(value)
                tops.append(others)
                noted["n_sent"] = len(new)
                if token in ends:
                    reason = "stop"
                ended = reason == "stop" or len(new) >= min(most, room)
                if body.get("stream") and (ended or len(new) % self.state.per_event == 0):
                    text = backend.decode([t for t in new if t not in ends])
                    if text.endswith("\ufffd") and not ended:
                        text = text[:shown]
                    if mode == "half" and len(new) > 3:
                        raise BrokenPipeError
                    if mode == "report" and len(new) > 3:
                        self.event({"error": {"message": "engine dead", "code": 500}})
                        break
                    stops = mode.partition(":")[2] if mode.startswith("reason:") else reason
                    choice = self.choice(body, chat, text[shown:], new, logs, tops, told)
                    choice["finish_reason"] = stops if ended else None
                    self.event({"model": body["model"], "choices": [choice]})
                    shown, told = len(text), len(new)
                    if self.state.pause_at and len(new) >= self.state.pause_at and not ended:
                        self.wait_for_leave()
                    if self.state.delay_s:
                        time.sleep(self.state.delay_s)
                if ended:
                    break
            usage = {"prompt_tokens": len(ids), "completion_tokens": len(new)}
            if body.get("stream"):
                if body.get("stream_options", {}).get("include_usage"):
                    self.event({"choices": [], "usage": usage})
                self.event(None)
                return
        except (BrokenPipeError, ConnectionResetError):
            noted["left"] = mode != "half"
            self.close_connection = True
            self.connection.close()
            return
        text = backend.decode([t for t in new if t not in ends])
        choice = self.choice(body, chat, text, new, logs, tops, 0)
        choice["finish_reason"] = reason
        if body.get("echo"):
            values = backend.scores(body["model"], ids)
            tokens = [backend.decode([t]) for t in ids]
            choice["logprobs"] = {"tokens": tokens, "token_logprobs": values}
        if body.get("prompt_logprobs") is not None:
            values = backend.scores(body["model"], ids)
            choice["prompt_logprobs"] = [
                None if v is None else {str(t): {"logprob": v}}
                for t, v in zip(ids, values, strict=True)
            ]
        self.answer(200, {"model": body["model"], "choices": [choice], "usage": usage})

    def wait_for_leave(self):
        """Until the client has closed the connection; goes on if it does not."""
        readable, _, _ = select.select([self.connection], [], [], 20)
        if readable and not self.connection.recv(1, socket.MSG_PEEK):
            raise BrokenPipeError

    def choice(self, body, chat, text, new, logs, tops, begin):
        backend = self.state.backend
        names = [backend.decode([token]) for token in new[begin:]]
        rows = [{backend.decode([t]): v for t, v in top.items()} for top in tops[begin:]]
        told = {"index": 0, "logprobs": None}
        if chat:
            told["delta" if body.get("stream") else "message"] = {"content": text}
            if body.get("logprobs"):
                told["logprobs"] = {
                    "content": [
                        {
                            "token": name,
                            "logprob": value,
                            "top_logprobs": [{"token": n, "logprob": v} for n, v in row.items()],
                        }
                        for name, value, row in zip(names, logs[begin:], rows, strict=True)
                    ]
                }
            return told
        told["text"] = text
        if body.get("return_token_ids") and not self.state.strict:
            told["token_ids"] = new[begin:]
        if body.get("logprobs") is not None:
            if body.get("return_tokens_as_token_ids"):
                names = [f"token_id:{token}" for token in new[begin:]]
                rows = [{f"token_id:{t}": v for t, v in top.items()} for top in tops[begin:]]
            told["logprobs"] = {
                "tokens": names,
                "token_logprobs": logs[begin:],
                "top_logprobs": rows,
            }
        return told

    def event(self, value):
        data = "[DONE]" if value is None else json.dumps(value, ensure_ascii=False)
        line = f"data: {data}\n\n".encode("utf-8", "replace")
        end = b"0\r\n\r\n" if value is None else b""
        self.wfile.write(b"%x\r\n%s\r\n%s" % (len(line), line, end))
        self.wfile.flush()

    def error(self, status, message, code=None, headers=None):
        error = {"message": message, "type": "Error", "code": code or status}
        self.answer(status, {"error": error}, headers)

    def answer(self, status, value, headers=None):
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)


class Quiet(ThreadingHTTPServer):
    """A client that leaves is no error here."""

    request_queue_size = 128

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def serve(spec, port=0):
    """Serve until killed."""
    is_tiny = any("folder" in told for told in spec["models"].values())
    Handler.state = State(Tiny(spec) if is_tiny else Letters(spec))
    Handler.state.key = spec.get("key")
    server = Quiet(("127.0.0.1", port), Handler)
    print(f"port {server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve(json.loads(Path(sys.argv[1]).read_text()))
