// Greets whoever is named in the path.
const express = require("express");

const app = express();
app.get("/hello/:name", (request, response) => {
  response.json({ hello: request.params.name });
});
const server = app.listen(8080, () => console.log("listening on 8080"));
process.on("SIGTERM", () => server.close());
