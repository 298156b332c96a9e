FROM differential/base:1
COPY . /ctx/
