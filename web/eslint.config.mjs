import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["node_modules/", "build/"] },
  ...tseslint.configs.strict,
  {
    rules: {
      // indices are within their arrays by construction; tests on real images show it
      "@typescript-eslint/no-non-null-assertion": "off",
      eqeqeq: "error",
      "prefer-const": "error",
    },
  },
);
