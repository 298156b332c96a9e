FROM differential/base:1
COPY dir /d/
