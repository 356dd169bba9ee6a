// Draws the REST API's document with Swagger UI. What is tried out is sent as this page's scripts send things:
// with the browser's login and the page's token.
"use strict";

{
  const place = document.getElementById("swagger");

  const dress = () => document.documentElement.classList.toggle("dark-mode", document.documentElement.dataset.bsTheme === "dark");
  document.addEventListener("fedn:theme", dress);
  dress();

  const ours = (request) => {
    const token = document.getElementById("state")?.dataset.token;
    if (token && new URL(request.url, location.href).origin === location.origin) request.headers["Fedn-Csrf"] = token;
    return request;
  };

  SwaggerUIBundle({
    domNode: place,
    url: place.dataset.document,
    presets: [SwaggerUIBundle.presets.apis],
    requestInterceptor: ours,
    showMutatedRequest: false, // the commands that it shows are for programs, which need no page token
    validatorUrl: null, // the document is shown to nobody else
    deepLinking: true,
    displayRequestDuration: true,
    docExpansion: "none",
    defaultModelsExpandDepth: 0,
    filter: true,
    withCredentials: true,
  });
}
