// Swagger UI's validator is a service on the internet: null disables it.
const page = SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, tryItOutEnabled: true, validatorUrl: null,
  onComplete: () => { if (!location.hash) page.layoutActions.show(["operations", "predict", "post_predict"], true); },
});
