// Shows the OpenAPI document with Swagger UI, when its package is installed.
"use strict";

const place = document.getElementById("swagger");

async function show() {
  const spec = await (await fetch("/api/openapi.json")).json();
  // The packaged Swagger UI knows OpenAPI 3.0 only, and skips what is new in our 3.1.
  window.SwaggerUIBundle({ spec: { ...spec, openapi: "3.0.3" }, dom_id: "#swagger", deepLinking: true, validatorUrl: null });
}

if (window.SwaggerUIBundle) {
  show().catch((error) => { place.textContent = error.message; });
} else {
  place.textContent = "Swagger UI is not installed. The OpenAPI document is at /api/openapi.json.";
}
