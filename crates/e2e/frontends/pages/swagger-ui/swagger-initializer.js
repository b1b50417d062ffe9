// In place of the package's own, which shows an API that is elsewhere.
window.onload = () => {
  window.ui = SwaggerUIBundle({
    url: "api.json",
    dom_id: "#swagger-ui",
    validatorUrl: null,
    presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
    layout: "StandaloneLayout",
  });
};
