FROM differential/base:1
ONBUILD COPY --from=data /data /from-data
ONBUILD RUN <<EOF
echo heredoc > /heredoc
EOF
