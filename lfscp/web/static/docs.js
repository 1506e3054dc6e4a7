// Shows the OpenAPI document with Swagger UI, when its package is installed.
if (window.SwaggerUIBundle) {
  window.SwaggerUIBundle({ url: "/api/openapi.json", dom_id: "#swagger", deepLinking: true, validatorUrl: null });
} else {
  document.getElementById("swagger").textContent = "Swagger UI is not installed; the document is at /api/openapi.json";
}
