FROM differential/base:1
ONBUILD RUN echo trigger >> /triggered
