# docker build -t fusionrnn --build-arg TORCH_INDEX=ADDRESS .                    the CPU build of torch: small
# docker build -t fusionrnn .                                                    any build of torch, on the CPU
# docker build -t fusionrnn:cuda --build-arg DEVICE=cuda .                       the CUDA build of torch
#
# TORCH_INDEX is the address of a further package index that is asked for torch: the one with PyTorch's CPU wheels for
# a small CPU image, or one with the wheels for your CUDA version. Without it torch comes from the default index, whose
# Linux wheel brings several GB of CUDA packages and runs on a CPU as well.

FROM python:3.11.15-slim-bookworm AS builder

ARG DEVICE=cpu
ARG TORCH_INDEX=
ENV PREFIX=/opt/fusionrnn \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /src

# Largest and rarest to change first: a change of the code repeats only the last step.
COPY constraints.txt ./
# The build of torch that was asked for, and not another, must come.
RUN case "$DEVICE" in cpu|cuda) ;; *) echo "DEVICE is cpu or cuda, not '$DEVICE'" >&2; exit 1 ;; esac \
    && python -m venv "$PREFIX" \
    && "$PREFIX/bin/python" -m pip install --constraint constraints.txt \
        ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} torch \
    && build="$("$PREFIX/bin/python" -W ignore -c 'import torch; print("cuda" if torch.version.cuda else "cpu")')" \
    && if [ "$build" != "$DEVICE" ] && [ "$DEVICE$TORCH_INDEX" != cpu ]; then \
        echo "DEVICE=$DEVICE, but the $build build of torch was found: name its index in TORCH_INDEX" >&2; exit 1; \
    fi

COPY pyproject.toml ./
RUN python -c "import tomllib; \
project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*project['dependencies'], *project['optional-dependencies']['traces'], sep='\n')" > requirements.txt \
    && "$PREFIX/bin/python" -m pip install --constraint constraints.txt --requirement requirements.txt

COPY README.md LICENSE NOTICE ./
COPY app app
COPY models models
# The link gives the shipped checkpoints a short name that does not hang on the version of Python.
RUN "$PREFIX/bin/python" -m pip install --no-deps . \
    && ln -s "$("$PREFIX/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/models/zoo" "$PREFIX/zoo"


FROM python:3.11.15-slim-bookworm

ARG DEVICE=cpu
# The zoo and the user's own folder are both served. HOME is where libraries keep their caches.
ENV PATH=/opt/fusionrnn/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    FUSIONRNN_HOST=0.0.0.0 \
    FUSIONRNN_PORT=8000 \
    FUSIONRNN_DEVICE=$DEVICE \
    FUSIONRNN_MODEL_DIR=/opt/fusionrnn/zoo:/checkpoints \
    FUSIONRNN_COLLECTIONS_DIR=/collections

RUN groupadd --system --gid 10001 fusionrnn \
    && useradd --system --uid 10001 --gid fusionrnn --no-create-home --shell /usr/sbin/nologin fusionrnn \
    && install --directory --owner fusionrnn --group fusionrnn /checkpoints /collections
COPY --from=builder /opt/fusionrnn /opt/fusionrnn

USER 10001:10001
WORKDIR /checkpoints
VOLUME /checkpoints /collections
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"FUSIONRNN_PORT\"]}/healthz', timeout=2)"]
# No shell stands between: SIGTERM reaches the service, which finishes what it has begun.
CMD ["fusionrnn", "serve"]
