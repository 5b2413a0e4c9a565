# Astraios with the toolchains of all six languages of HumanEvalPack:
#
#   docker build -t astraios .
#   docker run --rm -v "$PWD:/work" --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
#     astraios grade generations.json --task humanevalfixtests-rust
#
# The two options let the sandbox make namespaces of its own inside the container; without them it falls
# back to a weaker level, which `astraios doctor` and every report name. Programs of models run as another
# user than root either way. EXTRAS= builds the half without torch.
FROM python:3.13-slim-trixie

COPY .ci/toolchains /usr/local/bin/toolchains
RUN toolchains && toolchains --list && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/astraios
ARG EXTRAS=train
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY constraints.txt pyproject.toml README.md LICENSE NOTICE ./
RUN if [ -n "$EXTRAS" ]; then \
      pip install --no-cache-dir --index-url "$TORCH_INDEX" --extra-index-url https://pypi.org/simple \
        "$(grep '^torch==' constraints.txt)"; \
    fi && pip install --no-cache-dir -c constraints.txt hatchling editables
COPY src src
RUN pip install --no-cache-dir -c constraints.txt --no-build-isolation ".${EXTRAS:+[$EXTRAS]}"

RUN useradd --create-home astraios
USER astraios
WORKDIR /work
ENTRYPOINT ["astraios"]
CMD ["doctor"]
