FROM differential/base:1
ONBUILD ARG word=default
ONBUILD COPY file /srv/triggered
ONBUILD RUN echo "$word" > /word
ONBUILD ENV t=$word
ONBUILD USER app
ONBUILD WORKDIR /onbuild
