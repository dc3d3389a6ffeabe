"""How is a gateway asked, and how does it answer? OpenAI's API over HTTP, and FATE's own."""
