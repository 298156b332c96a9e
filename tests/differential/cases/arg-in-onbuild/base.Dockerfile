FROM differential/base:1
ARG w=base
ONBUILD ARG w=trigger
